"""`reprise init`: make a project in a folder of your own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.described.description import command
from pipeline.cli.output import answer, print_table, say
from pipeline.cli.project import AsJson

app = typer.Typer(rich_markup_mode=None)


@command(
    app,
    examples=["reprise init flowers --images photos", "reprise init digits --preset digits"],
    writes="the project into FOLDER; the images stay where they are",
    busy=True,
    fields={
        "folder": "text: the project",
        "preset": "text: the preset of its parameters",
        "notes": "list of text: what must be known: why this preset, what was done about git",
        "next": "text: the next command",
    },
)
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the project; a new or an empty one.")],
    preset: Annotated[
        str | None,
        typer.Option(help="Preset of parameters; `reprise list presets` lists them. By default what the images show."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Your images: a folder, or for some presets an archive. Nothing is copied.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a project in a folder of your own.

    It holds the graph, the parameters of a preset, the schedules, a folder for your own plug-ins, a git repository
    unless there is one around it, and the settings of DVC. A new repository gets its first commit if git knows your
    name. No stage is run.
    """
    from pipeline.projects.init import make_project

    made = make_project(folder, preset, images)
    following = f"cd {shlex.quote(str(folder))} && reprise repro"
    if as_json:
        answer({"folder": made.folder, "preset": made.preset, "notes": made.lines, "next": following})
        return
    for line in made.lines:
        say(line)
    say(f"{made.folder}: a project from the preset `{made.preset}`; params.yaml says what can be changed")
    say(f"next: {following}")


def print_presets(*, as_json: bool) -> None:
    """Print a row for each preset, or all that is known as JSON."""
    from pipeline.projects.presets import preset_table

    header, *rows = preset_table()
    if as_json:
        answer([dict(zip(header, row, strict=True)) for row in rows])
    else:
        print_table(header, rows)
