"""`reprise repro`, `why`, `scan`, `prune` and `runs`: run the graph, or say what would run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.described.description import command
from pipeline.cli.listing import list_stage_states
from pipeline.cli.output import answer, print_table, say, say_aside
from pipeline.cli.project import AsJson, Jobs, ShareCheckpoints, Wait, WorkersAddress, enter_project
from pipeline.graph import dvc, stage_modules
from pipeline.graph.definition import load_graph
from pipeline.graph.jobs.repro import repro as run_graph
from pipeline.graph.lock_file import read_lock
from pipeline.graph.machines.places import elsewhere_of
from reprise.config.errors import GraphError

SOURCE_LOCK = Path("source.lock.json")  # in the project
app = typer.Typer(rich_markup_mode=None)
Targets = Annotated[
    list[str] | None,
    typer.Argument(help="Stages such as `pretrain`, `pretrain/simclr` or `pretrain/simclr/0`; all stages by default."),
]


@command(
    app,
    examples=["reprise repro", "reprise repro pretrain/simclr --jobs 2"],
    writes="the outputs of the graph (data/, metrics.json), dvc.lock, source.lock.json and DVC's cache",
    busy=True,
    fields={
        "stages": "integer: number of stages of the graph",
        "rewritten": "list: stages whose entry in dvc.lock is another than before, in graph order",
        "rewritten[].stage": "text: DVC's name",
        "rewritten[].title": "text: its name for people",
    },
)
def repro(
    targets: Targets = None,
    wait: Wait = False,
    force: Annotated[bool, typer.Option("--force", help="Run the stages even if nothing changed.")] = False,
    jobs: Jobs = None,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going/--fail-fast",
            help="After a failure, run all stages that do not depend on what failed, or end the run at once.",
        ),
    ] = True,
    workers: WorkersAddress = None,
    share_checkpoints: ShareCheckpoints = None,
    as_json: AsJson = False,
) -> None:
    """Run every stage that is not up to date.

    Stages that do not depend on each other run at once, as many as --jobs allows, within the machine's memory and with
    a GPU for each training where there are GPUs. The results do not depend on their number. With --jobs 1, one DVC runs
    them one after the other. Each stage computes with one thread, unless REPRISE_THREADS says otherwise. With
    --workers, other machines compute the stages (`reprise worker`), and their results are restored here.

    Before the first stage, the parameters are checked, the source of images is scanned, what a killed run left behind
    is repaired, and the results of rows that left params.yaml are removed.
    """
    enter_project()
    before = {}
    if as_json:
        with suppress(GraphError):  # of a file that a kill left, which the run sets aside
            before = read_lock(Path())
    elsewhere = elsewhere_of(workers, share_checkpoints)
    run_graph(targets or [], jobs=jobs, wait=wait, force=force, fail_fast=not keep_going, elsewhere=elsewhere, say=say)
    if as_json:
        graph, after = load_graph(), read_lock(Path())
        changed = [stage for stage in graph.stages if after.get(stage.name) != before.get(stage.name)]
        rows = [{"stage": stage.name, "title": stage.title} for stage in changed]
        answer({"stages": len(graph.stages), "rewritten": rows})


@command(
    app,
    examples=["reprise why", "reprise why pretrain/simclr"],
    writes="source.lock.json, if the source of images changed",
    fields={
        "now": "list: stages with a change of their own, which would run or be restored from the cache",
        "now[].stage": "text: DVC's name",
        "now[].title": "text: its name for people",
        "now[].changes": "list of text: what changed",
        "then": "list: stages that follow if the outputs of those change",
        "then[].stage": "text: DVC's name",
        "then[].title": "text: its name for people",
        "then[].changes": "list of text: what may change",
    },
)
def why(targets: Targets = None, as_json: AsJson = False) -> None:
    """Show which stages would run, and why."""
    enter_project()
    say_what_runs()
    explanation = dvc.why(targets or [])
    if as_json:
        answer(asdict(explanation))
        return
    say(explanation.text())


@command(
    app,
    examples=["reprise scan"],
    writes="source.lock.json, and shifts.lock.json where there are sets of shifted images, if what they name changed",
    fields={
        "file": "text: the file that names the images",
        "changed": "yes/no: whether the images are others than at the last scan",
    },
)
def scan(as_json: AsJson = False) -> None:
    """Look for new, changed and removed images in the source.

    The result is source.lock.json, on which the graph depends.
    """
    enter_project()
    before = _content(SOURCE_LOCK)
    stage_modules.scan()
    changed = _content(SOURCE_LOCK) != before
    if as_json:
        answer({"file": SOURCE_LOCK, "changed": changed})
    elif not changed:  # a change is said by the scan itself
        say(f"{SOURCE_LOCK}: the source did not change")


@command(
    app,
    examples=["reprise prune"],
    writes="nothing new: it removes folders of data/ and entries of dvc.lock",
    busy=True,
    fields={
        "folders": "list of text: folders that were removed",
        "entries": "list of text: entries that were removed from dvc.lock",
        "moved": "list of text: entries that were renamed, as `old -> new`",
        "foreign": "list of text: what was left alone, because it is no output of the graph",
    },
)
def prune(wait: Wait = False, as_json: AsJson = False) -> None:
    """Remove results of rows that left params.yaml.

    Rows are runs, seeds, label sets, extractors and suites of probes. DVC's cache keeps the results, so a row that
    comes back is restored without running.
    """
    enter_project()
    pruned = dvc.prune_workspace(wait=wait, say=say)
    if as_json:
        answer(asdict(pruned))
        return
    for line in pruned.lines() or ["nothing to prune"]:
        say(line)


@command(
    app,
    examples=["reprise runs"],
    fields={
        "[].stage": "text: name for people",
        "[].name": "text: DVC's name",
        "[].state": "text: `up to date`, `changed` or `depends on a change`",
    },
)
def runs(as_json: AsJson = False) -> None:
    """List the stages with their names and states."""
    enter_project()
    say_what_runs()
    stage_modules.check()
    graph = load_graph()
    found = list_stage_states(graph, dvc.status(graph=graph))
    if as_json:
        answer([{"stage": title, "name": name, "state": state} for name, title, state in found])
        return
    print_table(["stage", "DVC's name", "state"], [[title, name, state] for name, title, state in found])


def say_what_runs() -> None:
    """Say in a line that something runs, because what is shown then may change at any moment."""
    from pipeline.graph.running.words import report_running

    line = report_running().summary()
    if line:
        say_aside(line)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
