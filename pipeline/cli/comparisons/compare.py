"""`reprise compare`: revisions, experiments and runs held against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.described.completion import runs as complete_runs
from pipeline.cli.described.description import command
from pipeline.cli.exit_codes import ExitCode
from pipeline.cli.output import answer, print_table, say, say_aside
from pipeline.cli.project import AsJson, enter_project

if TYPE_CHECKING:
    from pipeline.compare.sides.overview import Overview

app = typer.Typer(rich_markup_mode=None)


@command(
    app,
    examples=["reprise compare", "reprise compare HEAD~1 workspace --page compared.html"],
    writes="the HTML page that --page names",
    refused="with --strict, a comparison is unfair or figures are stale",
    fields={
        "sides": "list: what is compared, the base first",
        "sides[].name": "text: as it was named",
        "sides[].kind": "text: revision, experiment, run or folder",
        "sides[].*": "anything: where it lies, and from when it is",
        "metric": "text or null: the only metric that is shown",
        "doubtful": "yes/no: whether a comparison is unfair or figures are stale",
        "comparisons": "list: one for each side after the first",
        "comparisons[].base": "text: name of the base",
        "comparisons[].other": "text: name of the other side",
        "comparisons[].notes": "list: what makes a comparison unfair or old",
        "comparisons[].notes[].kind": "text: kind of the note",
        "comparisons[].notes[].text": "text: a sentence",
        "comparisons[].notes[].*": "anything: further fields",
        "comparisons[].parameters": "list or null: parameters that differ; null where a side cannot be read",
        "comparisons[].parameters[].name": "text: dotted name",
        "comparisons[].parameters[].kind": "text: added, removed or changed",
        "comparisons[].parameters[].old": "anything: the value before",
        "comparisons[].parameters[].new": "anything: the value after",
        "comparisons[].images": "object or null: how the images differ",
        "comparisons[].images.*": "anything: numbers of images",
        "comparisons[].figures": "list: a row for each run and metric",
        "comparisons[].figures[].run": "text: name of the run",
        "comparisons[].figures[].metric": "text: probe and metric",
        "comparisons[].figures[].base": "number or null: mean over seeds at the base",
        "comparisons[].figures[].other": "number or null: mean over seeds at the other side",
        "comparisons[].figures[].difference": "number or null: other - base",
        "comparisons[].figures[].low": "number or null: lower end of its interval",
        "comparisons[].figures[].high": "number or null: upper end of its interval",
        "comparisons[].figures[].over": "text: what the interval is over",
        "comparisons[].figures[].test": "text or null: the test",
        "comparisons[].figures[].verdict": "text: what it amounts to",
        "comparisons[].flips": "list: answers that changed",
        "comparisons[].flips[].run": "text: name of the run",
        "comparisons[].flips[].probe": "text: whose answers",
        "comparisons[].flips[].seeds": "anything: the seeds that both sides have",
        "comparisons[].flips[].images": "integer: images that both sides answered",
        "comparisons[].flips[].became_right": "integer: answers that became right",
        "comparisons[].flips[].became_wrong": "integer: answers that became wrong",
        "comparisons[].flips[].examples_right": "list: the first of them, with key and path",
        "comparisons[].flips[].examples_right[].*": "anything: key, path and answers",
        "comparisons[].flips[].examples_wrong": "list: the first of them, with key and path",
        "comparisons[].flips[].examples_wrong[].*": "anything: key, path and answers",
    },
)
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
    run: Annotated[
        list[str] | None, typer.Option(autocompletion=complete_runs, help="Show only this run. May be repeated.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(help="Also write a self-contained HTML page, with training curves and the images that flipped."),
    ] = None,
    as_json: AsJson = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the result as Markdown.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with status 3 where a comparison is unfair or figures are stale.")
    ] = False,
) -> None:
    """Compare revisions, experiments or runs.

    Shown are the parameters and images that differ, the differences of all figures with their intervals, and verdicts
    as far as the number of seeds allows. Notes say where a comparison is unfair or figures are older than the
    parameters.
    """
    from pipeline.compare.sides.names import RUN, find_sides
    from pipeline.compare.sides.overview import compare_sides
    from pipeline.compare.sides.texts import document, markdown

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
        answer(document(overview))
    elif as_markdown:
        print(markdown(overview))
    else:
        _print(overview)
    if strict and overview.doubtful:
        raise typer.Exit(ExitCode.REFUSED)


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
