"""What a benchmark tells: JSON on stdout, and in a file where one was asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def tell_part(part: Mapping[str, Any]) -> None:
    """Print a part of the report on stderr as soon as it is measured."""
    print(json.dumps(part, indent=2), file=sys.stderr, flush=True)


def tell(report: Mapping[str, Any], file: Path | None) -> None:
    """Print the whole report on stdout, and write it into a file where there is one."""
    text = json.dumps(report, indent=2)
    print(text)
    if file is not None:
        file.write_text(text + "\n", encoding="utf-8")
