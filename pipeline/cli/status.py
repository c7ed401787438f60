"""`reprise status` and `reprise doctor`: what runs in the project, and whether all is there that a run needs."""

from __future__ import annotations

from dataclasses import asdict

import typer

from pipeline.cli.described.description import command
from pipeline.cli.exit_codes import ExitCode
from pipeline.cli.output import answer, print_table, say
from pipeline.cli.project import AsJson, enter_project, find_project

app = typer.Typer(rich_markup_mode=None)


@command(
    app,
    examples=["reprise status", "reprise status --json"],
    fields={
        "running": "list: what runs; empty where nothing does",
        "running[].process": "integer: number of the process",
        "running[].host": "text or null: another machine that it runs on",
        "running[].started_by": "integer or null: number of the process that started it",
        "running[].kind": "text: kind of work, such as graph, stage, flow or sweep",
        "running[].title": "text: what it is, for people",
        "running[].stage": "text or null: DVC's name of the stage",
        "running[].folder": "text: folder that it works in, relative to the project",
        "running[].stopped": "yes/no: whether it is suspended",
        "running[].since": "text or null: when it began, in ISO 8601",
        "running[].seconds": "number or null: for how long it has run",
        "running[].part": "object or null: the part that it is at",
        "running[].part.unit": "text: stage or point",
        "running[].part.number": "integer: number of the part, from 1",
        "running[].part.of": "integer: number of parts",
        "running[].part.title": "text: name of the part",
        "running[].part.beside": "list of text: parts that run at the same time",
        "running[].work": "list: what is counted",
        "running[].work[].label": "text: what is done",
        "running[].work[].done": "integer: how much of it is done",
        "running[].work[].total": "integer or null: of how much",
        "running[].work[].unit": "text: of what",
        "running[].work[].rate": "number: a second",
        "running[].work[].figures": "object: name -> number, such as the loss",
        "running[].work[].figures.*": "number: the figure",
        "running[].work[].of": "object: name -> number, the last value that a figure will have",
        "running[].work[].of.*": "number: that value",
        "running[].work[].seconds_left": "number or null: seconds that it will still take",
        "running[].seconds_left": "number or null: seconds that all of it will still take",
        "running[].seconds_left_is_a_minimum": "yes/no or null: whether it may take longer than that",
    },
)
def status(as_json: AsJson = False) -> None:
    """Show what runs, since when, how far it is, and how long it will still take.

    Runs of every kind are shown: `dvc repro`, `reprise repro`, flows, sweeps, and a stage started by hand. The command
    takes no lock, so it answers while they work.
    """
    from pipeline.graph.running.words import report_running

    enter_project()
    report = report_running()
    if as_json:
        answer(report.json())
        return
    for line in report.lines():
        say(line)


@command(
    app,
    examples=["reprise doctor"],
    writes="nothing that stays",
    refused="there is a problem",
    fields={
        "[].what": "text: the thing",
        "[].state": "text: ok, note or problem",
        "[].found": "text: what was found",
        "[].fix": "text: what to do; empty where nothing is to be done",
    },
)
def doctor(as_json: AsJson = False) -> None:
    """Look for what is missing or wrong: packages, GPU, git, disk, locks, the remote and the store of shards.

    No lock is taken. Nothing is changed, except that a small file of a name of its own is written to the remote and to
    `shard.store`, read back and removed.
    """
    from pipeline.graph.running.doctor import WRONG, examine

    findings = list(examine(find_project()))
    if as_json:
        answer([asdict(finding) for finding in findings])
    else:
        print_table(["what", "state", "found"], [finding.row() for finding in findings])
    if any(finding.state == WRONG for finding in findings):
        raise typer.Exit(ExitCode.REFUSED)
