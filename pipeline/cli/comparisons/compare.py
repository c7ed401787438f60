"""`reprise compare` and `reprise gate`: revisions, experiments and runs held against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.output import print_table, say, say_aside
from pipeline.cli.project import enter_project

if TYPE_CHECKING:
    from pipeline.compare.sides.overview import Overview

app = typer.Typer(rich_markup_mode=None)
DOUBTFUL = 3  # exit status


@app.command()
def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REV|EXP|RUN]...",
            help="Git revisions, experiments of DVC, or runs of this folder; `workspace` means the folder as it is. The"
            " first is what the others are compared with. HEAD and the folder by default.",
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Show only this metric, named by probe and metric, such as knn.top1.")
    ] = None,
    run: Annotated[list[str] | None, typer.Option(help="Show only this run. May be repeated.")] = None,
    page: Annotated[
        Path | None,
        typer.Option(help="Also write a self-contained HTML page, with training curves and the images that flipped."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the result as Markdown.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with status 3 where a comparison is unfair or figures are stale.")
    ] = False,
) -> None:
    """Compare revisions, experiments or runs.

    Shown are the parameters and images that differ, the differences of all figures with their intervals, and verdicts
    as far as the number of seeds allows. Notes say where a comparison is unfair or figures are older than the
    parameters.

    The exit status is 0 if the comparison was made, 1 if it was refused, 2 if the command line is wrong, and with
    --strict 3 if the comparison is doubtful.

    Example: reprise compare HEAD~1 workspace --page compared.html
    """
    from pipeline.compare.sides.names import RUN, find_sides
    from pipeline.compare.sides.overview import compare_sides
    from pipeline.compare.sides.texts import as_json as json_of
    from pipeline.compare.sides.texts import markdown

    if as_json and as_markdown:
        raise typer.BadParameter("choose one of --json and --markdown", param_hint="--markdown")
    written = page.absolute() if page else None
    enter_project()
    sides = find_sides(names or [])
    if run and sides[0].kind == RUN:
        raise typer.BadParameter("the runs are those that are compared", param_hint="--run")
    overview = compare_sides(sides, metric=metric, runs=run or [], curves=written is not None)
    if written is not None:
        from pipeline.compare.pages.comparison import write_page

        write_page(overview, written)
        say_aside(f"page: {written}")
    if as_json:
        print(json_of(overview))
    elif as_markdown:
        print(markdown(overview))
    else:
        _print(overview)
    if strict and overview.doubtful:
        raise typer.Exit(DOUBTFUL)


def _print(overview: Overview) -> None:
    """Print notes to stderr, and tables to stdout."""
    from pipeline.compare.sides.texts import parameter_rows, words_on_parameters

    for number, pair in enumerate(overview.pairs):
        for note in pair.notes:
            say_aside(f"{note.kind}: {note.text}")
        if number:
            say("")
        base, other = pair.base.name, pair.other.name
        print_table(["run", "metric", base, other, "difference", "its interval", "verdict"], pair.figures.rows())
        if rows := parameter_rows(pair):
            say("")
            print_table(["parameter", base, other], rows)
        for line in filter(None, (words_on_parameters(pair), pair.images.line() if pair.images else "")):
            say("")
            say(line)
        if pair.flips:
            say("")
            rows = [
                [each.run, str(each.images), str(len(each.became_right)), str(len(each.became_wrong))]
                for each in pair.flips
            ]
            print_table(["run", f"images answered by {pair.flips[0].probe}", "became right", "became wrong"], rows)


@app.command()
def gate(
    metric: Annotated[
        str, typer.Argument(help="Metric, named by probe and metric; use one on val, not on test.")
    ] = "knn.top1_val",
    champion: Annotated[str, typer.Option(help="Git revision that the folder must not fall below.")] = "HEAD",
    run: Annotated[
        list[str] | None, typer.Option(help="Run to judge. May be repeated; by default all runs that both have.")
    ] = None,
    margin: Annotated[float, typer.Option(min=0.0, help="Accepted loss, in the metric's unit.")] = 0.0,
) -> None:
    """Fail if the folder is worse than a champion.

    A run fails if it lies below the champion by more than the margin with the whole interval of the difference. The
    exit status is 1 if a run fails.
    """
    from pipeline.compare.gate import judge

    enter_project()
    judgement = judge(metric, champion=champion, runs=run or [], margin=margin)
    for line in judgement.lines():
        say(line)
    if not judgement.passed:
        raise typer.Exit(1)
