"""Where the project is, and how to say something to the person at the terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from reprise.config.errors import GraphError, printable


def at_root() -> None:
    """Go to the nearest folder upward that holds dvc.yaml and params.yaml.

    Raises:
        GraphError: there is none.
    """
    for folder in [Path.cwd(), *Path.cwd().parents]:
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            os.chdir(folder)
            return
    raise GraphError(
        "this is not a Reprise project",
        where=Path.cwd(),
        found="no dvc.yaml and params.yaml here or above",
        fix="Go to the folder of the clone.",
    )


def say(line: str, stream: TextIO | None = None) -> None:
    """One line, safe for a terminal."""
    print(printable(line), file=stream or sys.stdout, flush=True)
