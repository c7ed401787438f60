"""`reprise history`: figures over revisions and nights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.output import print_table, say, say_aside
from pipeline.cli.project import enter_project

app = typer.Typer(rich_markup_mode=None)


@app.command()
def history(
    metrics: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[METRIC]...",
            help="Metrics, named by probe and metric, such as knn.top1; by default the one that is tested and those of"
            " the report.",
        ),
    ] = None,
    run: Annotated[list[str] | None, typer.Option(help="Show only this run. May be repeated.")] = None,
    last: Annotated[int, typer.Option(min=2, max=1000, help="How many points to show.")] = 100,
    page: Annotated[
        Path | None, typer.Option(help="Also write a self-contained HTML page with a chart a metric.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False,
) -> None:
    """Show metrics over the revisions and nights of this project.

    A point is a revision that changed metrics.json, a completed run of the flows, or the folder as it is. What changed
    between neighbours in parameters and images is shown with them.

    The exit status is 0 if there is a history, 1 if it was refused, and 2 if the command line is wrong.

    Example: reprise history knn.top1 linear.top1 --page history.html
    """
    from pipeline.compare.history.points import read_history
    from pipeline.compare.history.texts import as_json as json_of
    from pipeline.compare.history.texts import chosen_metrics, rows, runs_of
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
        print(json_of(found, shown, run or []))
        return
    for number, metric in enumerate(shown):
        if number:
            say("")
        if len(shown) > 1:
            say(metric)
        runs = runs_of(found, metric, run or [])
        print_table(["point", "when (UTC)", metric, *runs, "changed since the point before"], rows(found, metric, runs))
