"""`reprise status`: say what runs in the project."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pipeline.cli.output import say
from pipeline.cli.project import enter_project

app = typer.Typer(rich_markup_mode=None)


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, for programs.")] = False,
) -> None:
    """Show what runs, since when, how far it is, and how long it will still take.

    Runs of every kind are shown: `dvc repro`, `reprise repro`, flows, sweeps, and a stage started by hand. The command
    takes no lock, so it answers while they work.
    """
    from pipeline.graph.running.words import report_running

    enter_project()
    report = report_running()
    for line in [json.dumps(report.json(), indent=2)] if as_json else report.lines():
        print(line) if as_json else say(line)
