"""Attributes, of which an image may have several: a linear classifier for each, judged by average precision.

Reads the 0/1 columns of targets.csv, not the class label. Logistic regression on standardised features, every attribute
for itself; one penalty for all, chosen on val by mAP. Source: the usual multi-label protocol (mAP over classes, as in
Pascal VOC, without its 11 points). An attribute that train, or the scored split, has only or never is left out, and the
protocol names it; images whose value is empty are left out for that attribute. Equal scores are one step of the curve.

Checked by: tests/stages/probe/test_targets.py; tests/stages/probe/test_target_figures.py.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import PenaltyParams, may_choose
from stages.probe.probe import Figure, Probe, ProbeResult


def average_precision(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Area under precision over recall, as a sum over steps; equal scores are one step.

    Args:
        scores: (n,). positive: (n,) booleans. weights: (b, n), how often each example counts; None: once.

    Returns:
        (b,) values, or (1,); NaN where no positive counts.
    """
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], positive[order].astype(np.float64)
    weights = np.ones((1, len(scores))) if weights is None else weights[:, order]
    ends = np.flatnonzero(np.append(np.diff(scores) != 0, True))  # last example of each run of equal scores
    right = np.cumsum(weights * positive, axis=1)[:, ends]
    precision = right / np.maximum(np.cumsum(weights, axis=1)[:, ends], 1e-300)
    gained = np.diff(right, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray((precision * gained).sum(1) / right[:, -1])


class Multilabel(Probe):
    """Metrics: `map` (mean over attributes), `map_val`, `ap_<attribute>`."""

    needs_labels: ClassVar[bool] = False  # it has labels of its own
    needs_targets: ClassVar[bool] = True

    class Params(PenaltyParams):
        """As all linear probes; penalty is taken when fewer than 20 val images have attributes."""

    def run(self, data: ProbeData) -> ProbeResult:
        """Fit on train, choose on val, score test."""
        import torch

        from reprise.measures.linear import Classifier, Problem
        from reprise.measures.statistics import bootstrap

        names = data.attributes
        if not names or data.test == "train":
            reason = "targets.csv has no column of 0 and 1" if not names else "there is no split to score"
            return ProbeResult({}, {"note": f"not run: {reason}"})
        truth = {s: np.stack([data.target(n, s) for n in names], axis=1) for s in ("train", "val", data.test)}
        usable = _both(truth["train"]) & _both(truth[data.test])
        kept = [name for name, use in zip(names, usable, strict=True) if use]
        protocol = {
            **scoring.targets_note(data, names),
            "tap": BACKBONE,
            "classifier": "logistic regression for each attribute, L-BFGS to convergence",
            "left out": ", ".join(n for n in names if n not in kept) or "no attribute",
        }
        if not kept:
            return ProbeResult({}, {**protocol, "note": "not run: no attribute is both there and not there"})
        truth = {split: values[:, usable] for split, values in truth.items()}
        rows = ~np.isnan(truth["train"]).all(axis=1)
        signs = np.nan_to_num(2 * truth["train"][rows] - 1).astype(np.int64)
        x = data.features("train", BACKBONE)[rows]
        problem = Problem(x, signs, torch.float32, data.device, "logistic")
        x_val, x_test = data.features("val", BACKBONE), data.features(data.test, BACKBONE)

        def on_val(classifier: Classifier) -> float:
            found = _precisions(classifier.logits(x_val), truth["val"])
            return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0

        known_val = int((~np.isnan(truth["val"]).all(axis=1)).sum())
        why_not = may_choose(data, known_val)
        if why_not is None:
            best, classifier = -1.0, None
            for penalty in sorted(self.params.penalties, reverse=True):
                classifier = problem.fit(penalty, classifier)
                if on_val(classifier) > best:
                    best, chosen = on_val(classifier), classifier
            protocol["penalty"] = f"{chosen.penalty:g}, chosen by mAP on {known_val} val images"
        else:
            chosen = problem.fit(self.params.penalty)
            protocol["penalty"] = f"{chosen.penalty:g}, not chosen ({why_not})"
        scores, part = chosen.logits(x_test), data.part(data.test)
        metrics: dict[str, Figure] = {}
        for i, name in enumerate(kept):
            known = ~np.isnan(truth[data.test][:, i])
            s, y = scores[known, i], truth[data.test][known, i] > 0
            low, high = bootstrap(
                lambda w, s=s, y=y: average_precision(s, y, w),  # type: ignore[misc]
                len(s),
                None if part.groups is None else part.groups[known],
                data.confidence,
            )
            metrics[f"ap_{name}"] = Figure(float(average_precision(s, y)[0]), low, high, len(s))

        def mean(weights: np.ndarray) -> np.ndarray:
            each = []
            for i in range(len(kept)):
                known = ~np.isnan(truth[data.test][:, i])
                each.append(average_precision(scores[known, i], truth[data.test][known, i] > 0, weights[:, known]))
            return np.asarray(np.mean(each, axis=0))

        low, high = bootstrap(mean, len(part), part.groups, data.confidence)
        metrics["map"] = Figure(float(np.mean([f.value for f in metrics.values()])), low, high, len(part))
        if data.test == "test" and known_val and np.isfinite(_precisions(chosen.logits(x_val), truth["val"])).any():
            metrics["map_val"] = scoring.plain(on_val(chosen), known_val)
        return ProbeResult(metrics, protocol)


def _both(values: np.ndarray) -> np.ndarray:
    """(c,) whether a column holds a 0 and a 1."""
    return np.asarray((values == 0).any(axis=0) & (values == 1).any(axis=0))


def _precisions(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(c,) average precision of each column over its known rows; NaN without a positive one."""
    found = []
    for s, y in zip(scores.T, truth.T, strict=True):
        known = ~np.isnan(y)
        found.append(float(average_precision(s[known], y[known] > 0)[0]) if known.any() else np.nan)
    return np.array(found)
