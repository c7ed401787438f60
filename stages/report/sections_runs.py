"""The page's sections about the runs: figures with intervals, budgets, curves, guided batches, parameters."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stages.report.charts import Estimate, Line, interval_chart, line_chart
from stages.report.gather_runs import Run
from stages.report.text import listed, metric_title, number, quantity, share, shown

MOST_RUNS_WITH_CURVES = 24
MOST_POINTS = 400  # a line; longer histories are thinned
_CURVES = (
    ("loss", "Loss"),
    ("learning_rate", "Learning rate"),
    ("rankme", "RankMe (effective rank)"),
    ("feature_std", "Feature standard deviation"),
)
_NOT_CURVES = {"epoch", "step"}
_MOST_CURVES = 6
_COLUMNS = 5  # metrics a table
_RESOLVED = ("views", "options", "learning_rate_scaled", "stem", "pooling", "taps", "precision", "device", "threads")


@dataclass(frozen=True)
class Cell:
    """A metric of a run: its value (mean over seeds), its interval, and every seed's value."""

    value: str
    interval: str
    seeds: str
    best: bool


@dataclass(frozen=True)
class Row:
    """A run in the table."""

    name: str
    method: str
    labels: str
    seeds: int
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Budget:
    """What a run cost and ran on; texts, a dash where it is not written down."""

    name: str
    architecture: str
    pixels: str
    weights: str
    epochs: str
    images: str
    crops: str
    flops: str
    precision: str
    device: str
    features: str


@dataclass(frozen=True)
class Curves:
    """Small charts of one run."""

    run: str
    seeds: tuple[int, ...]
    charts: tuple[Markup, ...]


@dataclass(frozen=True)
class Batches:
    """Guided batches of one run and seed."""

    run: str
    seed: int
    labels: str
    order: str  # guided or random
    clusters: str
    largest: str
    batches: str
    conflicting: str
    affected: str
    possible: str  # whether zero conflicts were possible: only if the largest cluster has an image a batch at most


Intervals = Mapping[tuple[str, str], tuple[float | None, float | None]]  # (run, metric) -> both ends


def metric_tables(metrics: Sequence[str], family: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(title, metrics) of each table: first the family metric and other top-1 accuracies, then probe by probe."""
    main = tuple(m for m in metrics if m == family or m.endswith(".top1"))[:_COLUMNS]
    rest: dict[str, list[str]] = {}
    for metric in metrics:
        if metric not in main:
            rest.setdefault(metric.split(".", 1)[0], []).append(metric)
    tables = [("", main)] if main else []
    for probe, names in sorted(rest.items()):
        tables += [(metric_title(probe), tuple(names[i : i + _COLUMNS])) for i in range(0, len(names), _COLUMNS)]
    return tuple(tables)


def metric_names(runs: Sequence[Run], family: str) -> tuple[str, ...]:
    """All metrics of all runs, the family metric first, then accuracies, then the rest by name."""
    found = {metric for run in runs for seed in run.seeds for metric in seed.figures}
    return tuple(sorted(found, key=lambda m: (m != family, not m.endswith(("top1", "top5")), m)))


def estimate(run: Run, metric: str, intervals: Intervals) -> Estimate | None:
    """The run's mean over seeds with its interval over examples; None when no seed has the metric.

    With one seed the interval is the probe's; with several it is the summary's, of the mean.
    """
    found = [seed.figures[metric] for seed in run.seeds if metric in seed.figures]
    if not found:
        return None
    ends = (found[0].low, found[0].high) if len(found) == 1 else intervals.get((run.name, metric), (None, None))
    values = tuple(figure.value for figure in found)
    return Estimate(run.name, sum(values) / len(values), *ends, values)


def table(
    runs: Sequence[Run], metrics: Sequence[str], intervals: Intervals, saw_labels: frozenset[str] = frozenset()
) -> tuple[Row, ...]:
    """A row a run, a cell a metric; runs whose label set is among `saw_labels` are marked."""
    estimates = {(run.name, metric): estimate(run, metric, intervals) for run in runs for metric in metrics}
    best = {
        metric: max((e.value for (_, m), e in estimates.items() if m == metric and e), default=None)
        for metric in metrics
    }
    rows = []
    for run in runs:
        found = [(metric, estimates[run.name, metric]) for metric in metrics]
        cells = tuple(
            _cell(e, metric.endswith(("top1", "top5")) and e.value == best[metric]) if e else None
            for metric, e in found
        )
        config = run.first.config
        labels = str(config.get("labels") or "–")
        if labels in saw_labels:
            labels += " (has seen true labels)"
        rows.append(Row(run.name, str(config.get("method") or "–"), labels, len(run.seeds), cells))
    return tuple(rows)


def _cell(found: Estimate, best: bool) -> Cell:
    interval = "" if found.low is None or found.high is None else f"[{number(found.low)}, {number(found.high)}]"
    seeds = ""
    if len(found.seeds) > 1:
        spread = statistics.stdev(found.seeds)
        seeds = f"sd {number(spread)} over {len(found.seeds)} seeds: {listed([number(v) for v in found.seeds], 6)}"
    return Cell(number(found.value), interval, seeds, best)


def family_chart(runs: Sequence[Run], family: str, intervals: Intervals) -> Markup | None:
    """Dots and intervals of the family metric; None when no run has it."""
    found = [e for run in runs if (e := estimate(run, family, intervals))]
    return interval_chart(found, f"{metric_title(family)} by run, with intervals") if found else None


def budgets(runs: Sequence[Run]) -> tuple[Budget, ...]:
    """What the config.json of each run's first seed says."""
    return tuple(_budget(run.name, run.first.config) for run in runs)


def _budget(name: str, config: Mapping[str, Any]) -> Budget:
    def word(key: str) -> str:
        value = config.get(key)
        return "–" if value is None else number(value) if isinstance(value, int | float) else str(value)

    size, threads = config.get("input_size"), config.get("threads")
    side = size[0] if isinstance(size, list) and size else size
    return Budget(
        name=name,
        architecture=word("architecture"),
        pixels=f"{side} px" if side else "–",
        weights=word("weights"),
        epochs=word("epochs"),
        images=quantity(config.get("images_seen")),
        crops=quantity(config.get("crops_seen")),
        flops=quantity(config.get("flops_per_image")),
        precision=word("precision"),
        device=word("device") + (f" × {threads}" if threads else ""),
        features=word("num_features"),
    )


def curves(runs: Sequence[Run]) -> tuple[Curves, ...]:
    """Loss, learning rate, RankMe, feature standard deviation and what else the history holds, a line a seed."""
    found = []
    for run in [run for run in runs if any(seed.history for seed in run.seeds)][:MOST_RUNS_WITH_CURVES]:
        columns = {
            name for seed in run.seeds for name, values in seed.history.items() if any(v is not None for v in values)
        }
        known = [name for name, _ in _CURVES if name in columns]
        more = sorted(columns - _NOT_CURVES - set(known))
        titles = dict(_CURVES)
        charts = tuple(line_chart(_lines(run, name), titles.get(name, name)) for name in [*known, *more][:_MOST_CURVES])
        if charts:
            found.append(Curves(run.name, tuple(seed.seed for seed in run.seeds if seed.history), charts))
    return tuple(found)


def _lines(run: Run, column: str) -> list[Line]:
    lines = []
    for seed in run.seeds:
        values = seed.history.get(column, ())
        epochs = seed.history.get("epoch", ())
        x = (
            tuple(e if e is not None else float(i) for i, e in enumerate(epochs))
            if epochs
            else tuple(map(float, range(len(values))))
        )
        step = -(-len(values) // MOST_POINTS) or 1
        kept = sorted({*range(0, len(values), step), len(values) - 1}) if values else []
        if kept:
            lines.append(Line(f"seed {seed.seed}", tuple(x[i] for i in kept), tuple(values[i] for i in kept)))
    return lines


def guided_batches(runs: Sequence[Run]) -> tuple[Batches, ...]:
    """A row for every run and seed whose config has sampling figures."""
    rows = []
    for run in runs:
        for seed in run.seeds:
            sampling = seed.config.get("sampling")
            if isinstance(sampling, dict):
                rows.append(_batches(run.name, seed.seed, str(seed.config.get("labels") or "–"), sampling))
    return tuple(rows)


def _batches(run: str, seed: int, labels: str, sampling: Mapping[str, Any]) -> Batches:
    largest, batches, affected = sampling.get("largest"), sampling.get("batches"), sampling.get("share_affected")
    possible = "–"
    if largest is not None and batches is not None:
        possible = "yes" if largest <= batches else f"no: {largest:,} > {batches:,}"
    return Batches(
        run=run,
        seed=seed,
        labels=labels,
        order=str(sampling.get("kind") or "guided"),
        clusters=number(sampling.get("clusters")),
        largest=number(largest),
        batches=number(batches),
        conflicting=number(sampling.get("conflicting_pairs")),
        affected="–" if affected is None else share(affected, 1),
        possible=possible,
    )


def flattened(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """Nested parameters as (dotted path, value) in their order; texts are bounded."""
    if isinstance(value, Mapping) and value:
        return [
            row for key in value for row in flattened(value[key], f"{prefix}.{shown(key)}" if prefix else shown(key))
        ]
    if isinstance(value, bool) or value is None:
        return [(prefix, {True: "true", False: "false", None: "null"}[value])]
    return [(prefix, shown(value, 200))]


def parameter_rows(runs: Sequence[Run]) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    """(path, value by run, whether the runs differ): every parameter that any run used, those that differ first."""
    by_run = [dict(flattened(_used(run.first.config))) for run in runs]
    paths = list(dict.fromkeys(path for found in by_run for path in found))
    rows = [(path, tuple(found.get(path, "–") for found in by_run)) for path in paths]
    return tuple(
        sorted(((path, values, len(set(values)) > 1) for path, values in rows), key=lambda row: (not row[2], row[0]))
    )


def _used(config: Mapping[str, Any]) -> dict[str, Any]:
    """What params.yaml gave, and what became of its nulls and `auto`s."""
    given = config.get("parameters")
    resolved = {name: config[name] for name in _RESOLVED if config.get(name) not in (None, {})}
    return {**(given if isinstance(given, Mapping) else {}), **({"resolved": resolved} if resolved else {})}


def protocol_rows(runs: Sequence[Run]) -> tuple[tuple[str, str, tuple[str, ...], bool], ...]:
    """(probe, choice, value by run, whether the runs differ) from protocol.json."""
    by_run = [
        {(probe, path): value for probe, raw in run.first.protocol.items() for path, value in flattened(raw)}
        for run in runs
    ]
    paths = sorted({path for found in by_run for path in found})
    rows = [(probe, path, tuple(found.get((probe, path), "–") for found in by_run)) for probe, path in paths]
    return tuple((probe, path, values, len(set(values)) > 1) for probe, path, values in rows)
