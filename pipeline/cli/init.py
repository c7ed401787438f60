"""`reprise init`: make a project in a folder of your own."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.output import print_table, say

app = typer.Typer(rich_markup_mode=None)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the project; a new or an empty one.")],
    preset: Annotated[
        str | None,
        typer.Option(help="Preset of parameters; `reprise list presets` lists them. By default what the images show."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Your images: a folder, or for some presets an archive. Nothing is copied.")
    ] = None,
) -> None:
    """Make a project in a folder of your own.

    It holds the graph, the parameters of a preset, the schedules, a folder for your own plug-ins, a git repository
    unless there is one around it, and the settings of DVC. A new repository gets its first commit if git knows your
    name. No stage is run.
    """
    from pipeline.projects.init import make_project

    made = make_project(folder, preset, images)
    for line in made.lines:
        say(line)
    say(f"{made.folder}: a project from the preset `{made.preset}`; params.yaml says what can be changed")
    say(f"next: cd {shlex.quote(str(folder))} && reprise repro")


def print_presets(*, as_json: bool) -> None:
    """Print a row for each preset, or all that is known as JSON."""
    from pipeline.projects.presets import preset_table

    header, *rows = preset_table()
    if as_json:
        print(json.dumps([dict(zip(header, row, strict=True)) for row in rows], indent=2))
    else:
        print_table(header, rows)
