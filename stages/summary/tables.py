"""Results as plain tables and nested numbers, for `dvc metrics`, `dvc plots` and spreadsheets."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from reprise.artifacts.tables.spreadsheet import safe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stages.summary.gather import Results

DIGITS = 6


def rounded(value: float | None) -> float | None:
    """Round to six digits after the point: beyond them machines differ, and no interval is that narrow."""
    return None if value is None else round(float(value), DIGITS) + 0.0


def nested_means(results: Results) -> dict[str, Any]:
    """Nest the means over seeds as {run: {probe: {metric: mean}}}, for `dvc metrics show` and `diff`."""
    nested: dict[str, Any] = {}
    for metric in results.metrics():
        probe, name = metric.split(".", 1)
        for run, seeds in results.values(metric).items():
            mean = sum(figure["value"] for figure in seeds.values()) / len(seeds)
            nested.setdefault(run, {}).setdefault(probe, {})[name] = rounded(mean)
    return nested


def table_csv(results: Results) -> str:
    """Write a row for each figure: run, seed, probe, metric, value, low, high, n."""
    rows = [
        [run, seed, *metric.split(".", 1), *(rounded(figure[k]) for k in ("value", "low", "high")), figure["n"]]
        for metric in results.metrics()
        for run, seeds in results.values(metric).items()
        for seed, figure in seeds.items()
    ]
    order = {run: i for i, run in enumerate(results.runs)}
    rows.sort(key=lambda row: (order[row[0]], row[1], row[2], row[3]))
    return _csv(["run", "seed", "probe", "metric", "value", "low", "high", "n"], rows)


def curves_csv(results: Results) -> str:
    """Write all training histories in one table: run, seed, epoch, step, loss, then every other column, sorted."""
    columns = {name for rows in results.histories.values() for row in rows for name in row if name is not None}
    first = ["epoch", "step", "loss"]
    names = first + sorted(columns - {*first, "run", "seed"})
    rows = [
        [run, seed, *(row.get(name, "") for name in names)]
        for (run, seed), history in results.histories.items()
        for row in history
    ]
    return _csv(["run", "seed", *names], rows)


WATCHED = ["epoch", "step", "watch", "figure", "value"]


def watches_csv(results: Results) -> str | None:
    """Write what watches saw of all runs in one table, a row a figure; None where no run was watched."""
    if not results.watched:
        return None
    rows = [
        [run, seed, *(row[name] for name in WATCHED)] for (run, seed), seen in results.watched.items() for row in seen
    ]
    return _csv(["run", "seed", *WATCHED], rows)


def confusion_csv(results: Results, probe: str | None) -> str:
    """Write a row for each run and test image, from the first seed: run, actual, predicted.

    `dvc plots` makes a confusion matrix of these columns. Names of classes that a spreadsheet would compute begin with
    an apostrophe; see reprise/artifacts/tables/spreadsheet.py.

    Args:
        results: all results.
        probe: the probe whose predictions are written; None writes the header alone.
    """
    answers = results.answers.get(probe or "", {})
    rows: list[list[Any]] = []
    for run in results.runs:
        first = next((answers[run, seed] for seed in results.seeds if (run, seed) in answers), None)
        if first is not None:
            rows += [[run, actual, answer] for actual, answer in zip(first.labels, first.predicted, strict=True)]
    return _csv(["run", "actual", "predicted"], rows)


def _csv(names: list[str], rows: Iterable[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(["" if value is None else safe(value) for value in row] for row in rows)
    return text.getvalue()
