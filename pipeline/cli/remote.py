"""`reprise pull` and `reprise push`: bring results from the DVC remote, and send them there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.output import say
from pipeline.cli.project import enter_project

app = typer.Typer(rich_markup_mode=None)


@app.command()
def pull(
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another run in this folder, instead of giving up.")
    ] = False,
) -> None:
    """Fetch results from the DVC remote.

    The run cache is fetched as well, and the results of dvc.lock are put into the folder.
    """
    from pipeline.graph import remote
    from pipeline.graph.workspace import exclusive

    enter_project()
    with exclusive(Path(), wait=wait, say=say):
        say(remote.pull(on_line=say, checkout=True).note)


@app.command()
def push() -> None:
    """Send results to the DVC remote.

    The run cache is sent as well.
    """
    from pipeline.graph import remote

    enter_project()
    say(remote.push(on_line=say).note)
