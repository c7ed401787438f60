"""`reprise ...`: thin verbs over the modules beside this one. Expected errors are a sentence and an exit status."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli import flows, probe, sweep
from pipeline.cli.listing import described_methods, stage_states
from pipeline.cli.project import at_root, say
from pipeline.graph import dvc
from pipeline.graph.graph import load_graph
from pipeline.processes.processes import CommandFailed
from reprise.config.errors import RepriseError, printable

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

app.add_typer(flows.app, name="flows")
app.add_typer(sweep.app)
app.add_typer(probe.app)

Targets = Annotated[
    list[str] | None, typer.Argument(help="Stages: `pretrain`, `pretrain/simclr`, `pretrain/simclr/0`. None: all.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for another run in this folder.")]


def main() -> None:
    """Entry point of the console script; REPRISE_TRACEBACK=1 shows tracebacks of expected errors as well."""
    try:
        app()
    except (RepriseError, CommandFailed) as error:
        if os.environ.get("REPRISE_TRACEBACK") == "1":
            raise
        sys.exit(explained(error))
    except KeyboardInterrupt:
        print("interrupted: `reprise repro` goes on from here", file=sys.stderr)
        sys.exit(130)


def explained(error: RepriseError | CommandFailed) -> int:
    """Print an expected error and give the exit status. A failed command has spoken for itself."""
    if isinstance(error, RepriseError):
        print(f"error: {error}", file=sys.stderr)
        return 1
    for line in error.lines:
        print(printable(line), file=sys.stderr)
    return error.status


@app.command()
def repro(
    targets: Targets = None,
    wait: Wait = False,
    force: Annotated[bool, typer.Option("--force", help="Run although nothing changed.")] = False,
) -> None:
    """Run what is not up to date; put right what a kill or a removed row left."""
    at_root()
    dvc.repro(targets or [], wait=wait, force=force, say=say)


@app.command()
def why(targets: Targets = None) -> None:
    """Say what would run and which dependency changed."""
    at_root()
    say(dvc.why(targets or []).text())


@app.command()
def check() -> None:
    """Check every parameter; all problems at once."""
    at_root()
    dvc.check(again=True)
    say("params.yaml: every parameter is valid")


@app.command()
def scan() -> None:
    """Look at the source of images and write source.lock.json."""
    at_root()
    dvc.scan()


@app.command()
def prune(wait: Wait = False) -> None:
    """Remove what rows no longer in params.yaml left in data/ and dvc.lock."""
    at_root()
    for line in dvc.prune_workspace(wait=wait, say=say).lines() or ["nothing to prune"]:
        say(line)


@app.command()
def runs() -> None:
    """List the stages with their names and states."""
    at_root()
    dvc.check()
    graph = load_graph()
    _table(
        ["stage", "dvc's name", "state"],
        [[title, name, state] for name, title, state in stage_states(graph, dvc.status(graph=graph))],
    )


@app.command()
def methods() -> None:
    """List the methods that a run may name."""
    at_root()
    rows = [list(row) for row in described_methods(Path("stages/pretrain/methods"))]
    _table(["method", "what it is", "source", "needs"], rows)


@app.command()
def compare(
    base: Annotated[str, typer.Argument(help="A git revision; `workspace` is the folder as it is.")] = "HEAD",
    other: Annotated[str, typer.Argument(help="Another one.")] = "workspace",
    metric: Annotated[str | None, typer.Option(help="Only this metric, as probe.name: knn.top1.")] = None,
) -> None:
    """Show the metrics of two revisions side by side, with what the seeds allow to say."""
    from pipeline.compare.runs import compare_revisions

    at_root()
    comparison = compare_revisions(base, other, metric=metric)
    _table(["run", "metric", base, other, "difference", "verdict"], comparison.rows())


@app.command()
def gate(
    metric: Annotated[str, typer.Argument(help="probe.name; decide on val, not on test.")] = "knn.top1_val",
    champion: Annotated[str, typer.Option(help="The git revision to be at least as good as.")] = "HEAD",
    run: Annotated[list[str] | None, typer.Option(help="Runs to look at; none: all that both have.")] = None,
    margin: Annotated[float, typer.Option(min=0.0, help="Loss that is still accepted, in the metric's unit.")] = 0.0,
) -> None:
    """Exit with 1 if the folder's metric is worse than the champion's by more than margin and interval."""
    from pipeline.compare.gate import judge

    at_root()
    judgement = judge(metric, champion=champion, runs=run or [], margin=margin)
    for line in judgement.lines():
        say(line)
    if not judgement.passed:
        raise typer.Exit(1)


def _table(columns: list[str], rows: list[list[str]]) -> None:
    """A table on a terminal, tab-separated lines elsewhere."""
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            print("\t".join(map(printable, row)))
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in map(printable, row)))
    Console().print(table)
