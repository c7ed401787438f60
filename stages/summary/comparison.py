"""The comparison: each metric over runs and seeds, each pair of runs with its verdict, budgets, warnings.

Verdicts follow docs/explanation/statistics.md: they come from `reprise.measures.statistics.compare`, over the one
family that params.yaml states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reprise.measures.statistics import Interval, Pair, bootstrap_mean, compare
from stages.summary.tables import rounded

if TYPE_CHECKING:
    from stages.summary.gather import Results
    from stages.summary.params import SummaryParams

BUDGET = (
    "method",
    "labels",
    "architecture",
    "weights",
    "epochs",
    "steps",
    "images_seen",
    "crops_seen",
    "flops_per_image",
    "precision",
    "device",
)
SHARED = ("images_seen", "precision", "device")  # of runs that train; crops and FLOPs belong to the method


def comparison(results: Results, params: SummaryParams) -> dict[str, Any]:
    """Everything in data/summary/comparison.json; deterministic, rounded."""
    pairs, notes = _pairs(results, params)
    return {
        "confidence": params.confidence,
        "family": params.family,
        "runs": results.runs,
        "seeds": results.seeds,
        "metrics": {metric: _over_runs(results, metric, params.confidence) for metric in results.metrics()},
        "pairs": pairs,
        "budget": {run: _budget(results, run) for run in results.runs},
        "warnings": warnings(results),
        "notes": notes,
    }


def classification_probe(results: Results, family: str) -> str | None:
    """The probe whose confusion is shown: the family's, if it classifies, else the first by name."""
    return family.split(".", 1)[0] if family.split(".", 1)[0] in results.answers else min(results.answers, default=None)


def _over_runs(results: Results, metric: str, confidence: float) -> dict[str, Any]:
    """run -> mean over seeds, value a seed, interval over examples of that mean, standard deviation over seeds."""
    scores = _scores(results, metric)
    found = {}
    for run, seeds in results.values(metric).items():
        figures = list(seeds.values())
        if len(figures) == 1:
            interval = Interval(figures[0]["low"], figures[0]["high"])
        elif scores is not None:
            per_example = np.mean([scores[run][seed] for seed in seeds], axis=0)
            interval = bootstrap_mean(per_example, _groups(results, metric), confidence)
        else:
            interval = Interval(None, None)  # no per-example scores of which the mean could be drawn again
        values = [figure["value"] for figure in figures]
        found[run] = {
            "mean": rounded(float(np.mean(values))),
            "seeds": {str(seed): rounded(figure["value"]) for seed, figure in seeds.items()},
            "low": rounded(interval.low),
            "high": rounded(interval.high),
            "sd_over_seeds": rounded(float(np.std(values, ddof=1))) if len(values) > 1 else None,
            "n": figures[0]["n"],
        }
    return found


def _scores(results: Results, metric: str) -> dict[str, dict[int, np.ndarray]] | None:
    """run -> seed -> correct or not, if the metric is the share of right answers of a probe with predictions."""
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
    return [_pair(pair) for pair in pairs], notes


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
    """What a run cost, of its first seed."""
    config = results.configs[run, results.seeds[0]]
    return {name: config.get(name) for name in BUDGET}


def warnings(results: Results) -> list[str]:
    """Where runs that train differ in images seen, precision or device, within one comparison (any seed)."""
    trained = {key: config for key, config in results.configs.items() if config.get("steps")}
    found = []
    for name in SHARED:
        holders: dict[str, list[str]] = {}
        for (run, seed), config in trained.items():
            holders.setdefault(str(config.get(name)), []).append(f"{run} seed {seed}")
        if len(holders) > 1:
            shown = "; ".join(f"{value}: {', '.join(runs)}" for value, runs in sorted(holders.items()))
            found.append(f"the runs differ in {name}, so their figures are not at one budget ({shown})")
    return found
