"""Find the project around the current folder, and the options of commands that run its graph."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from reprise.config.errors import GraphError

Jobs = Annotated[
    int | None, typer.Option(min=1, help="How many stages may run at once; as many as the cores allow by default.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON document, for programs; all else goes to stderr.")
]
WorkersAddress = Annotated[
    str | None,
    typer.Option("--workers", metavar="ADDRESS", help="Dask scheduler (tcp://HOST:8786) whose workers compute stages."),
]
ShareCheckpoints = Annotated[
    float | None,
    typer.Option(
        min=1.0,
        metavar="SECONDS",
        help="With --workers: send checkpoints to the DVC remote after every so many seconds, so that another worker "
        "can go on from them.",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for another run in this folder, instead of giving up.")]


def find_project() -> Path | None:
    """Return the nearest folder, from the current one upward, that holds dvc.yaml and params.yaml."""
    for folder in [Path.cwd(), *Path.cwd().parents]:
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    return None


def enter_project() -> None:
    """Change to the folder of the project.

    Raises:
        GraphError: neither the current folder nor one above it is a project.
    """
    try:
        folder = find_project()
    except FileNotFoundError as error:  # of the current folder itself
        raise GraphError(
            "the current folder does not exist any more",
            where=os.environ.get("PWD", "the current folder"),
            found=error.strerror,
            fix="Change to the folder of your project.",
        ) from error
    if folder is None:
        raise GraphError(
            "this is not a Reprise project",
            where=Path.cwd(),
            found="no dvc.yaml and params.yaml here or above",
            fix="Change to the folder of your project, or make one: `reprise init FOLDER`.",
        )
    os.chdir(folder)
