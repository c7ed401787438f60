"""The runs side by side: figures with intervals, verdicts on pairs, budgets.

Checked by: tests/stages/report/claims/test_headline.py; tests/stages/report/sections/test_sections.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from reprise.artifacts.budgets import SHARED, entry, in_words, labels_read, trains, unequal, with_earlier
from reprise.storage.atomic import dump_json
from stages.report.claims.further_metrics import further_verdicts
from stages.report.downloads import data_uri, figures, figures_csv, latex
from stages.report.drawing.charts import Estimate, interval_chart
from stages.report.estimates import confidence_of, estimate, family_of, intervals_of, is_share
from stages.report.params import ReportParams
from stages.report.readers.answers import Answers
from stages.report.readers.comparison import Comparison, Intervals, Verdict
from stages.report.readers.label_sets import LabelSet, sets_with_true_labels
from stages.report.readers.runs import Run
from stages.report.section_registry import Absent
from stages.report.text import join_words, metric_title, number, points, quantity, signed

TITLE = "Results"
ORDER = 4
READS = ("label_sets", "runs", "comparison", "answers", "params")

DOWNLOAD_BUDGET = 2_000_000  # bytes of page
_COLUMNS = 5  # metrics in a table


@dataclass(frozen=True)
class Cell:
    """A metric of a run: its mean over seeds, its interval, the value of every seed, and whether it is the highest."""

    value: str
    interval: str
    seeds: str
    best: bool


@dataclass(frozen=True)
class Row:
    """A run in a table of figures; `budget` says what of its budget is not that of all runs."""

    name: str
    method: str
    labels: str
    seeds: int
    budget: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class VerdictRow:
    """A pair of runs in the table of verdicts."""

    first: str
    second: str
    differs: bool
    difference: str
    interval: str
    p: str
    words: str


@dataclass(frozen=True)
class Budget:
    """The cost of a run and the machine that it ran on; a dash where nothing is recorded."""

    name: str
    architecture: str
    parameters: str
    start: str
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
class Note:
    """A sentence of config.json about one training."""

    run: str
    seed: int
    words: str


def show(
    label_sets: tuple[LabelSet, ...],
    runs: tuple[Run, ...],
    comparison: Comparison | None,
    answers: dict[str, Answers],
    params: ReportParams,
) -> dict[str, Any] | Absent:
    """Compare all runs by their figures, pair by pair, and by their budgets."""
    if not runs:
        return Absent("There are no runs: the pretrain stage has not written data/runs.")
    family, intervals = family_of(comparison), intervals_of(comparison)
    true_labels = sets_with_true_labels(label_sets, runs)
    listed = [metric for metric in params.metrics if metric != family]
    further = further_verdicts(runs, listed, answers, confidence_of(comparison))
    ordered = sorted(runs, key=lambda run: (-(e.value if (e := estimate(run, family, intervals)) else -1e9), run.name))
    return {
        "family": family,
        "family_chart": family_chart(runs, family, intervals),
        "interval_words": interval_words(runs),
        "metric_tables": [
            (title, names, table(ordered, names, intervals, true_labels))
            for title, names in metric_tables(metric_names(runs, family), family)
        ],
        "remarks": comparison.remarks if comparison else (),
        "how_tested": how_tested(comparison),
        "verdicts": verdict_rows(runs, family, comparison.verdicts) if comparison else [],
        "further": [(f.metric, verdict_rows(runs, f.metric, f.verdicts), f.tested) for f in further],
        "in_points": [metric for metric in (family, *listed) if is_share(runs, metric)],
        "unknown_metrics": [metric for metric in listed if metric not in {f.metric for f in further}],
        "files": files(runs, [family, *listed], intervals),
        "budgets": [_budget(run.name, run.first.config) for run in runs],
        "notes": notes_of(runs),
    }


def notes_of(runs: Sequence[Run]) -> list[Note]:
    """List what config.json says of each training that went on otherwise than its parameters say, and of collapse."""
    found = []
    for run in runs:
        for seed in run.seeds:
            notes, collapse = seed.config.get("notes"), seed.config.get("collapse")
            sentences = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
            if isinstance(collapse, Mapping):
                sentences.append(f"it collapsed at step {collapse.get('step')}: {collapse.get('found')}.")
            found += [Note(run.name, seed.seed, sentence) for sentence in sentences]
    return found


def metric_names(runs: Sequence[Run], family: str) -> tuple[str, ...]:
    """List all metrics of all runs, the family metric first, then accuracies, then the rest by name."""
    names = {metric for run in runs for seed in run.seeds for metric in seed.figures}
    return tuple(sorted(names, key=lambda m: (m != family, not m.endswith(("top1", "top5")), m)))


def metric_tables(metrics: Sequence[str], family: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Split metrics into tables, as (title, metrics).

    The first table holds the family metric and other top-1 accuracies and has no title; one or more follow a probe.
    """
    main = tuple(m for m in metrics if m == family or m.endswith(".top1"))[:_COLUMNS]
    rest: dict[str, list[str]] = {}
    for metric in metrics:
        if metric not in main:
            rest.setdefault(metric.split(".", 1)[0], []).append(metric)
    tables = [("", main)] if main else []
    for probe, names in sorted(rest.items()):
        tables += [(metric_title(probe), tuple(names[i : i + _COLUMNS])) for i in range(0, len(names), _COLUMNS)]
    return tuple(tables)


def table(
    runs: Sequence[Run], metrics: Sequence[str], intervals: Intervals, true_labels: frozenset[str] = frozenset()
) -> tuple[Row, ...]:
    """Make a row for each run and a cell for each metric; runs whose label set is among `true_labels` are marked."""
    estimates = {(run.name, metric): estimate(run, metric, intervals) for run in runs for metric in metrics}
    best = {
        metric: max((e.value for (_, m), e in estimates.items() if m == metric and e), default=None)
        for metric in metrics
    }
    unlike = unequal([run.first.config for run in runs])
    rows = []
    for run in runs:
        by_metric = [(metric, estimates[run.name, metric]) for metric in metrics]
        cells = tuple(
            _cell(e, metric.endswith(("top1", "top5")) and e.value == best[metric]) if e else None
            for metric, e in by_metric
        )
        config = run.first.config
        labels = str(config.get("labels") or "–")
        if true_labels & set(labels_read(config)):
            labels += " (has seen true labels)"
        if reads := config.get("reads"):
            labels += f"; reads {', '.join(map(str, reads))}"
        budget = own_budget(config, unlike)
        rows.append(Row(run.name, str(config.get("method") or "–"), labels, len(run.seeds), budget, cells))
    return tuple(rows)


def own_budget(config: Mapping[str, Any], unlike: Sequence[str]) -> str:
    """Say what a run has of the entries in which budgets differ: "images seen 300; epochs 3".

    Args:
        config: config.json of the run.
        unlike: the entries; none where all runs that train have one budget.
    """
    if not unlike:
        return ""
    if not trains(config):
        return "not trained"
    config = with_earlier(config)
    stated = {name: value for name in unlike if (value := entry(config, name)) is not None}
    return "; ".join(f"{SHARED[name]} {in_words(value)}" for name, value in stated.items())


def _cell(figure: Estimate, best: bool) -> Cell:
    interval = "" if figure.low is None or figure.high is None else f"[{number(figure.low)}, {number(figure.high)}]"
    seeds = ""
    if len(figure.seeds) > 1:
        spread = statistics.stdev(figure.seeds)
        seeds = (
            f"sd {number(spread)} over {len(figure.seeds)} seeds: {join_words([number(v) for v in figure.seeds], 6)}"
        )
    return Cell(number(figure.value), interval, seeds, best)


def family_chart(runs: Sequence[Run], family: str, intervals: Intervals) -> Markup | None:
    """Draw dots and intervals of the family metric; None when no run has it."""
    estimates = [e for run in runs if (e := estimate(run, family, intervals))]
    return interval_chart(estimates, f"{metric_title(family)} by run, with intervals") if estimates else None


def interval_words(runs: Sequence[Run]) -> str:
    """Explain the bars of the chart."""
    if max((len(run.seeds) for run in runs), default=0) > 1:
        return (
            "A dot is the mean over seeds, a ring one seed, a bar the interval over test examples of that mean. "
            "The bar leaves out the variation between seeds: only the verdicts below settle a comparison."
        )
    return (
        "There is one seed: a bar is the interval over test examples. It shows how precisely this model is measured, "
        "not how much another seed would differ. Only the verdicts below settle a comparison; overlaps of bars do not."
    )


def how_tested(comparison: Comparison | None) -> str:
    """Explain how the verdicts were reached; empty when nothing was tested."""
    if comparison is None or comparison.claim == "none":
        return ""
    metric, tests = metric_title(comparison.family), join_words(list(comparison.tests))
    if comparison.claim == "methods":
        return (
            f"Test: {tests} on the differences in {metric} of {comparison.seeds} seeds, with Holm's correction over "
            "all pairs. The results are statements about methods on this data set and budget."
        )
    return (
        f"Test: {tests} on the same images for {metric}, with Holm's correction over all pairs. It shows whether two "
        "trained models differ. It makes no statement about methods, which needs three seeds or more. "
        "The brackets are intervals over examples for each pair alone, without the correction."
    )


def files(runs: Sequence[Run], metrics: Sequence[str], intervals: Intervals) -> list[tuple[str, str, Markup | None]]:
    """List (format, file name, address) of the results as files; None for those too large to be inside the page."""
    texts = {"csv": figures_csv(runs, intervals), "tex": latex(runs, metrics, intervals)}
    texts["json"] = dump_json({"figures": figures(runs, intervals)})
    titles = {"csv": "CSV", "tex": "LaTeX", "json": "JSON"}
    listed: list[tuple[str, str, Markup | None]] = []
    left = DOWNLOAD_BUDGET
    for kind, text in texts.items():
        address = data_uri(kind, text)
        left -= len(address)
        listed.append((titles[kind], f"results.{kind}", address if left >= 0 else None))
    return listed


def verdict_rows(runs: Sequence[Run], metric: str, verdicts: Sequence[Verdict]) -> list[VerdictRow]:
    """Put the verdicts on a metric into rows; differences of shares are in percentage points."""
    in_points = is_share(runs, metric)
    return [verdict_row(verdict, points if in_points else signed) for verdict in verdicts]


def verdict_row(verdict: Verdict, write: Callable[[float], str] = points) -> VerdictRow:
    """Put a verdict into words; how far it reaches is stated once, above the table."""
    low, high, p = verdict.low, verdict.high, verdict.p
    return VerdictRow(
        first=verdict.first,
        second=verdict.second,
        differs=verdict.differs,
        difference=write(verdict.gap),
        interval="" if low is None or high is None else f"[{write(low)}, {write(high)}]",
        p="–" if p is None else "< 0.001" if p < 0.001 else f"= {p:.3f}",
        words=verdict.words,
    )


def _images(config: Mapping[str, Any]) -> str:
    """Write the images that a run has seen, and those of the runs that it goes on from ("1,800 after 10,000")."""
    own = quantity(config.get("images_seen"))
    earlier = [step.get("images_seen") or 0 for step in config.get("before") or []]
    return f"{own} after {quantity(sum(earlier))}" if earlier else own


def _budget(name: str, config: Mapping[str, Any]) -> Budget:
    def word(key: str) -> str:
        value = config.get(key)
        return "–" if value is None else number(value) if isinstance(value, int | float) else str(value)

    size, threads = config.get("input_size"), config.get("threads")
    pixels = size[0] if isinstance(size, list) and size else size
    return Budget(
        name=name,
        architecture=word("architecture"),
        parameters=quantity(config.get("backbone_parameters")),
        start=word("started_from"),
        pixels=f"{pixels} px" if pixels else "–",
        weights=word("weights"),
        epochs=word("epochs"),
        images=_images(config),
        crops=quantity(config.get("crops_seen")),
        flops=quantity(config.get("flops_per_image")),
        precision=word("precision"),
        device=word("device") + (f" × {threads}" if threads else ""),
        features=word("num_features"),
    )
