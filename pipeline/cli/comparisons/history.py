"""`reprise history`: figures over revisions and nights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.described.completion import runs as complete_runs
from pipeline.cli.described.description import command
from pipeline.cli.output import answer, print_table, say, say_aside
from pipeline.cli.project import AsJson, enter_project

app = typer.Typer(rich_markup_mode=None)


@command(
    app,
    examples=["reprise history", "reprise history knn.top1 linear.top1 --page history.html"],
    writes="the HTML page that --page names",
    fields={
        "metrics": "list of text: metrics that are shown",
        "notes": "list of text: what must be known of the whole",
        "points": "list: revisions, nights and the folder, oldest first",
        "points[].number": "integer: from 1",
        "points[].kind": "text: revision, night or folder",
        "points[].name": "text: short commit, `night` or `workspace`",
        "points[].commit": "text: the commit; empty where there is none",
        "points[].when": "text: in ISO 8601, UTC; empty where it is not known",
        "points[].subject": "text: first line of the commit's message",
        "points[].also": "list of text: later points with the same figures",
        "points[].notes": "list of text: what must be known of the point",
        "points[].parameters": "list or null: parameters that changed; null where they cannot be compared",
        "points[].parameters[].name": "text: dotted name",
        "points[].parameters[].kind": "text: added, removed or changed",
        "points[].parameters[].old": "anything: the value before",
        "points[].parameters[].new": "anything: the value after",
        "points[].images_changed": "yes/no or null: whether the images changed; null where that is not known",
        "points[].figures": "object: metric -> run -> figure",
        "points[].figures.*.*.value": "number: mean over seeds",
        "points[].figures.*.*.low": "number or null: lower end of its interval",
        "points[].figures.*.*.high": "number or null: upper end of its interval",
        "points[].figures.*.*.seeds": "integer or null: number of seeds",
        "outcomes": "list: promoted versions, and runs of flows that did not complete, oldest first",
        "outcomes[].kind": "text: promoted or refused",
        "outcomes[].name": "text: tag of the version, or name of the final state, such as Drift, Held or Failed",
        "outcomes[].when": "text: in ISO 8601, UTC; empty where it is not known",
        "outcomes[].commit": "text: that the tag leads to, or that was checked out; empty where there is none",
        "outcomes[].message": "text: why",
        "points[].verdicts": "object: run -> a sentence",
        "points[].verdicts.*": "text: the verdict on the tested metric",
    },
)
def history(
    metrics: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[METRIC]...",
            help="Metrics, named by probe and metric, such as knn.top1; by default the one that is tested and those of"
            " the report.",
        ),
    ] = None,
    run: Annotated[
        list[str] | None, typer.Option(autocompletion=complete_runs, help="Show only this run. May be repeated.")
    ] = None,
    last: Annotated[int, typer.Option(min=2, max=1000, help="How many points to show.")] = 100,
    page: Annotated[
        Path | None, typer.Option(help="Also write a self-contained HTML page with a chart of each metric.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show metrics over the revisions and nights of this project.

    A point is a revision that changed metrics.json, a completed run of the flows, or the folder as it is. What changed
    between neighbours in parameters and images is shown with them. Below stand the versions that were promoted, and the
    runs of flows that did not complete, with what stopped them.
    """
    from pipeline.compare.history.points import read_history
    from pipeline.compare.history.texts import OUTCOME_COLUMNS, chosen_metrics, document, outcome_rows, rows, runs_of
    from pipeline.compare.runs import read_family

    written = page.absolute() if page else None
    enter_project()
    family = read_family()
    found = read_history(family, most=last)
    shown = chosen_metrics(found, metrics or [])
    known = {name for metric in shown for name in runs_of(found, metric)}
    unknown = [name for name in run or [] if name not in known]
    if unknown:
        raise typer.BadParameter(f"no point has {', '.join(unknown)}; there are {', '.join(known)}", param_hint="--run")
    for note in found.notes:
        say_aside(f"note: {note}")
    if written is not None:
        from pipeline.compare.pages.history import write_page

        write_page(found, shown, family, written, run or [])
        say_aside(f"page: {written}")
    if as_json:
        answer(document(found, shown, run or []))
        return
    for number, metric in enumerate(shown):
        if number:
            say("")
        if len(shown) > 1:
            say(metric)
        runs = runs_of(found, metric, run or [])
        print_table(["point", "when (UTC)", metric, *runs, "changed since the point before"], rows(found, metric, runs))
    if found.outcomes:
        say("")
        print_table(OUTCOME_COLUMNS, outcome_rows(found))
