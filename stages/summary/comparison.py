"""The comparison of runs: each metric over runs and seeds, a verdict on each pair of runs, budgets, warnings.

Verdicts follow docs/explanation/statistics.md: `reprise.measures.statistics.compare` tests all pairs on the one metric
that params.yaml names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reprise.artifacts.budgets import SHARED, differences, entry, trains, with_earlier
from reprise.measures.statistics import Interval, Pair, bootstrap_mean, compare
from reprise.storage.progress import track
from stages.summary.tables import rounded

if TYPE_CHECKING:
    from stages.summary.gather import Results
    from stages.summary.params import SummaryParams

BUDGET = (
    "method",
    "labels",
    "architecture",
    "backbone_parameters",
    "started_from",
    "weights",
    "epochs",
    "steps",
    "images_seen",
    "crops_seen",
    "flops_per_image",
    "precision",
    "device",
)


def comparison(results: Results, params: SummaryParams) -> dict[str, Any]:
    """Compute the content of data/summary/comparison.json, rounded, the same for the same results."""
    pairs, notes = _pairs(results, params)
    return {
        "confidence": params.confidence,
        "family": params.family,
        "runs": results.runs,
        "seeds": results.seeds,
        "metrics": {
            metric: _over_runs(results, metric, params.confidence)
            for metric in track(results.metrics(), "summary", unit="metrics")
        },
        "pairs": pairs,
        "budget": {run: _budget(results, run) for run in results.runs},
        "warnings": warnings(results),
        "notes": notes,
    }


def classification_probe(results: Results, family: str) -> str | None:
    """Choose the probe whose confusion is written: the probe of the family if it classifies, else the first by name."""
    probe = family.split(".", 1)[0]
    return probe if probe in results.answers else min(results.answers, default=None)


def _over_runs(results: Results, metric: str, confidence: float) -> dict[str, Any]:
    """Map each run to its mean over seeds, every seed's value, the interval of the mean and the spread over seeds."""
    scores = _scores(results, metric)
    by_run = {}
    for run, seeds in results.values(metric).items():
        figures = list(seeds.values())
        if len(figures) == 1:
            interval = Interval(figures[0]["low"], figures[0]["high"])
        elif scores is not None:
            # The interval is over examples: an example's score is its mean over seeds, and examples are drawn again.
            per_example = np.mean([scores[run][seed] for seed in seeds], axis=0)
            interval = bootstrap_mean(per_example, _groups(results, metric), confidence)
        else:
            interval = Interval(None, None)  # without scores by example there is nothing to draw again
        values = [figure["value"] for figure in figures]
        by_run[run] = {
            "mean": rounded(float(np.mean(values))),
            "seeds": {str(seed): rounded(figure["value"]) for seed, figure in seeds.items()},
            "low": rounded(interval.low),
            "high": rounded(interval.high),
            "sd_over_seeds": rounded(float(np.std(values, ddof=1))) if len(values) > 1 else None,
            "n": figures[0]["n"],
        }
    return by_run


def _scores(results: Results, metric: str) -> dict[str, dict[int, np.ndarray]] | None:
    """Map run and seed to (n,) right or wrong, if the metric is the share of right answers of a probe; else None."""
    probe, name = metric.split(".", 1)
    answers = results.answers.get(probe, {})
    values = results.values(metric)
    if name != "top1" or any((run, seed) not in answers for run in values for seed in values[run]):
        return None
    return {run: {seed: answers[run, seed].correct for seed in seeds} for run, seeds in values.items()}


def _groups(results: Results, metric: str) -> np.ndarray | None:
    answers = results.answers.get(metric.split(".", 1)[0], {})
    return next(iter(answers.values())).groups if answers else None


def _pairs(results: Results, params: SummaryParams) -> tuple[list[dict[str, Any]], list[str]]:
    values = {r: {s: f["value"] for s, f in seeds.items()} for r, seeds in results.values(params.family).items()}
    notes = [f"{run} has no {params.family} and is in no pair" for run in results.runs if run not in values]
    if not values:
        known = ", ".join(results.metrics()) or "none"
        return [], [f"no run has the metric {params.family} (without labels there is none); known: {known}"]
    pairs = compare(values, _scores(results, params.family), _groups(results, params.family), params.confidence)
    return [_pair(pair) | {"unequal": _unequal(results, pair)} for pair in pairs], notes


def _unequal(results: Results, pair: Pair) -> list[str]:
    """Say in what the budgets of two runs differ, by their first seed."""
    return differences(*(results.configs[run, results.seeds[0]] for run in (pair.a, pair.b)))


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "a": pair.a,
        "b": pair.b,
        "seeds": list(pair.seeds),
        "difference": rounded(pair.difference),
        "test": pair.test,
        "p": rounded(pair.p),
        "p_adjusted": rounded(pair.p_adjusted),
        "over_seeds": {"low": rounded(pair.over_seeds.low), "high": rounded(pair.over_seeds.high)},
        "over_examples": {"low": rounded(pair.over_examples.low), "high": rounded(pair.over_examples.high)},
        "verdict": pair.verdict,
    }


def _budget(results: Results, run: str) -> dict[str, Any]:
    """Give the budget of a run, from its first seed."""
    config = results.configs[run, results.seeds[0]]
    further = {name: config[name] for name in ("image_share", "before", "teacher") if config.get(name)}
    return {name: config.get(name) for name in BUDGET} | further


def warnings(results: Results) -> list[str]:
    """Warn where runs that train differ in what a fair comparison shares (`SHARED`), for any seed."""
    trained = {key: with_earlier(config) for key, config in results.configs.items() if trains(config)}
    sentences = []
    for name in SHARED:
        runs_by_value: dict[str, list[str]] = {}
        for (run, seed), config in trained.items():
            if (value := entry(config, name)) is None:
                continue
            runs_by_value.setdefault(str(value), []).append(f"{run} seed {seed}")
        if len(runs_by_value) > 1:
            values = "; ".join(f"{value}: {', '.join(runs)}" for value, runs in sorted(runs_by_value.items()))
            sentences.append(f"the runs differ in {name}, so their figures are not at one budget ({values})")
    return sentences
