"""`reprise status` and `reprise doctor`: what runs in the project, and whether all is there that a run needs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pipeline.cli.output import print_table, say
from pipeline.cli.project import enter_project, find_project

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


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, for programs.")] = False,
) -> None:
    """Look for what is missing or wrong: packages, GPU, git, disk, locks and the remote.

    Nothing is changed, and no lock is taken. The exit status is 1 where there is a problem.
    """
    from pipeline.graph.running.doctor import WRONG, examine
    from pipeline.graph.running.doctor import as_json as findings_json

    findings = list(examine(find_project()))
    if as_json:
        print(findings_json(findings))
    else:
        print_table(["what", "state", "found"], [finding.row() for finding in findings])
    if any(finding.state == WRONG for finding in findings):
        raise typer.Exit(1)
