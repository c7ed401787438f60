"""`reprise sweep`: try parameter changes as DVC experiments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.described.description import command
from pipeline.cli.exit_codes import ExitCode
from pipeline.cli.output import answer, say, say_aside
from pipeline.cli.project import AsJson, enter_project

if TYPE_CHECKING:
    from pipeline.sweeps.runner import SweepPlan, SweepPoint, SweepResult

app = typer.Typer(rich_markup_mode=None)


@command(
    app,
    examples=["reprise sweep sweeps/temperature.yaml --list", "reprise sweep sweeps/temperature.yaml --parallel 2"],
    writes="DVC experiments on the current commit, logs to .reprise/sweeps, and the page that --output names",
    busy=True,
    fields={
        "plan": "text: name of the plan",
        "revision": "text or null: the commit that the sweep started from; null with --list and --forget",
        "forgotten": "list of text or null: with --forget the points that were removed",
        "points": "list: the points of the plan; empty with --forget",
        "points[].name": "text: name of the experiment",
        "points[].changes": "object: what the point changes in params.yaml",
        "points[].changes.*": "anything: the value",
        "points[].state": "text: waiting, running, done, done before, failed or stopped",
        "points[].seconds": "number: how long it took this time",
        "points[].message": "text: why it failed; empty otherwise",
        "points[].experiment": "text or null: commit of the experiment",
        "metric": "text or null: what the verdicts are about; null with --list and --forget",
        "base": "text or null: name of the point that the others are compared with",
        "figures": "list: a row for each point that is done, run and seed",
        "figures[].point": "text: name of the point",
        "figures[].run": "text: name of the run",
        "figures[].seed": "integer: the seed",
        "figures[].value": "number: the metric",
        "differences": "list: a row for each run of each other point",
        "differences[].point": "text: name of the point",
        "differences[].run": "text: name of the run",
        "differences[].difference": "number or null: point - base point, mean over the seeds that both have",
        "differences[].verdict": "text: what it amounts to",
    },
)
def sweep(
    file: Annotated[Path, typer.Argument(help="Plan of the sweep, a YAML file.")],
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Number of points to run at once; the plan's value by default.")
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="List the points and which of them are done, without running anything.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Remove the plan's experiments on the current commit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the stages write.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="Also write the final comparison to this file, as Markdown.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another sweep in this folder, instead of giving up.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Try parameters over seeds, and compare them.

    Each point of the plan is a DVC experiment on the current commit. The folder itself does not change.

    A plan is a file such as `{name: warmer, grid: {methods.gsimclr.temperature: [0.2, 0.5]}, seeds: [0, 1, 2]}`. Every
    combination of the grid's values is a point; `points: [{}, {train.epochs: 120}]` in its place lists them one by one.
    Besides `name` and one of these, everything may be left out: `seeds`, `parallel`, `metric`, `base`, `curve` and
    `reference`.
    """
    from pipeline.sweeps import runner

    plan_file, page_file = file.absolute(), output.absolute() if output else None
    enter_project()
    plan = runner.load_plan(plan_file)
    if list_only:
        points = runner.list_points(plan)
        if as_json:
            answer(_document(plan, points))
            return
        for point in points:
            say(point.line())
        return
    if forget:
        forgotten = runner.forget(plan)
        if as_json:
            answer({**_document(plan, []), "forgotten": forgotten})
            return
        for name in forgotten or ["nothing"]:
            say(f"forgot {name}")
        return
    if parallel:
        plan = plan.model_copy(update={"parallel": parallel})
    result = runner.run_sweep(plan, say=say, on_line=say if verbose else None, wait=wait)
    page = result.markdown()
    if page_file:
        page_file.write_text(page, encoding="utf-8")
    if as_json:
        answer(_document(plan, result.points, result))
    else:
        say("")
        for line in page.splitlines():  # line by line, because `say` limits the length of what it prints
            say(line)
    if result.failed:
        say_aside(f"{len(result.failed)} of {len(result.points)} points failed")
        raise typer.Exit(ExitCode.FAILED)


def _document(plan: SweepPlan, points: Sequence[SweepPoint], result: SweepResult | None = None) -> dict[str, Any]:
    """Return the points of a plan, and the comparison where there is a result."""
    rows = [
        {"name": p.name, "changes": p.changes, "state": p.state, "seconds": p.seconds, "message": p.message}
        | {"experiment": p.experiment}
        for p in points
    ]
    found = result.comparison if result else None
    figures = [
        {"point": point, "run": run, "seed": seed, "value": figure.value}
        for point, table in (found.tables.items() if found else ())
        for run, seeds in table.get(found.metric if found else "", {}).items()
        for seed, figure in sorted(seeds.items())
    ]
    differences = [
        {"point": d.point, "run": d.run, "difference": d.pair.difference if d.pair else None, "verdict": d.verdict}
        for d in (found.differences if found else ())
    ]
    return {
        "plan": plan.name,
        "revision": result.revision if result else None,
        "forgotten": None,
        "points": rows,
        "metric": found.metric if found else None,
        "base": found.base if found else None,
        "figures": figures,
        "differences": differences,
    }
