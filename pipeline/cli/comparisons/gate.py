"""`reprise gate`: the folder against a champion, for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.described.completion import runs as complete_runs
from pipeline.cli.described.description import command
from pipeline.cli.exit_codes import ExitCode
from pipeline.cli.output import answer, say
from pipeline.cli.project import AsJson, enter_project

if TYPE_CHECKING:
    from pipeline.compare.gate import Judgement

app = typer.Typer(rich_markup_mode=None)


@command(
    app,
    examples=["reprise gate", "reprise gate knn.top1_val --champion HEAD~1 --margin 0.01"],
    refused="a run fails",
    fields={
        "metric": "text: probe and metric",
        "champion": "text: git revision",
        "margin": "number: accepted loss, in the metric's unit",
        "passed": "yes/no: whether every run passes",
        "rulings": "list: a row for each run",
        "rulings[].run": "text: name of the run",
        "rulings[].champion": "number: mean over seeds at the champion's revision",
        "rulings[].challenger": "number: mean over seeds in the folder",
        "rulings[].low": "number or null: lower end of the interval of the difference",
        "rulings[].high": "number or null: upper end of the interval of the difference",
        "rulings[].over": "text: what the interval is over",
        "rulings[].over_examples": "object: the interval over examples, whatever the number of seeds",
        "rulings[].over_examples.*": "number or null: low and high",
        "rulings[].passed": "yes/no: whether the run passes",
    },
)
def gate(
    metric: Annotated[
        str, typer.Argument(help="Metric, named by probe and metric; use one on val, not on test.")
    ] = "knn.top1_val",
    champion: Annotated[str, typer.Option(help="Git revision that the folder must not fall below.")] = "HEAD",
    run: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=complete_runs, help="Run to judge. May be repeated; by default all runs that both have."
        ),
    ] = None,
    margin: Annotated[float, typer.Option(min=0.0, help="Accepted loss, in the metric's unit.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Fail if the folder is worse than a champion.

    A run fails if it lies below the champion by more than the margin with a whole interval of the difference: over
    seeds if there are three or more, or over examples.
    """
    from pipeline.compare.gate import judge

    enter_project()
    judgement = judge(metric, champion=champion, runs=run or [], margin=margin)
    if as_json:
        answer(_document(judgement))
    else:
        for line in judgement.lines():
            say(line)
    if not judgement.passed:
        raise typer.Exit(ExitCode.REFUSED)


def _document(judgement: Judgement) -> dict[str, Any]:
    rulings = [
        {name: getattr(ruling, name) for name in ("run", "champion", "challenger", "over", "passed")}
        | {"low": ruling.interval.low, "high": ruling.interval.high, "over_examples": ruling.over_examples._asdict()}
        for ruling in judgement.rulings
    ]
    return {
        "metric": judgement.metric,
        "champion": judgement.champion,
        "margin": judgement.margin,
        "passed": judgement.passed,
        "rulings": rulings,
    }
