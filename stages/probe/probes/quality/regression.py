"""Quantities: how much of a number's variation can be read off frozen features linearly?

Reads the columns of targets.csv that are not 0/1 alone. Ridge regression on standardised features in closed form; the
penalty of each quantity is chosen on val by its error. R2 is 1 for exact answers, 0 for answering the mean of the
scored split, and may be negative. Images whose value is empty are left out for that quantity; a quantity that does not
vary in the scored split, or has no value in train, is left out, and the protocol names it.
Source: linear regression probes, as for rotation angles in SIE (Garrido et al. 2023).

Checked by: tests/stages/probe/test_targets.py; tests/stages/probe/test_target_figures.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import PenaltyParams, may_choose
from stages.probe.probe import Figure, Probe, ProbeResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def r_squared(residual: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(b,) or (1,) shares of the variance of (n,) targets that is explained; NaN where they do not vary."""
    weights = np.ones((1, len(target))) if weights is None else weights
    total = weights.sum(1)
    mean = weights @ target / total
    spread = weights @ (target * target) / total - mean * mean
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 1 - (weights @ (residual * residual) / total) / spread
    return np.where(spread > 1e-12 * np.maximum(1e-300, mean * mean), found, np.nan)


def ridge_path(x: np.ndarray, y: np.ndarray, penalties: Sequence[float]) -> Iterator[tuple[float, np.ndarray, float]]:
    """Ridge regression on standardised features, the intercept free: mean squared error + penalty |w|^2.

    Args:
        x: (n, d), n at least 1. y: (n,). penalties: > 0.

    Yields:
        penalty, (d,) weights on the features as they are, intercept.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    mean, std = x.mean(0), x.std(0)
    std = np.where(std <= 1e-9 * np.abs(x).max(0), 1.0, std)
    standard = (x - mean) / std
    eigenvalues, axes = np.linalg.eigh(standard.T @ standard / len(x))
    projected = axes.T @ (standard.T @ (y - y.mean())) / len(x)
    for penalty in penalties:
        weight = axes @ (projected / (np.maximum(eigenvalues, 0) + penalty)) / std
        yield penalty, weight, float(y.mean() - mean @ weight)


class Regression(Probe):
    """Metrics: `r2_<quantity>`, `mae_<quantity>` (mean absolute error, in its unit), `r2` (mean over quantities)."""

    needs_labels: ClassVar[bool] = False  # it has targets of its own
    needs_targets: ClassVar[bool] = True

    class Params(PenaltyParams):
        """As all linear probes; penalty is taken for quantities that fewer than 20 val images have."""

    def run(self, data: ProbeData) -> ProbeResult:
        """Fit on train, choose on val, score test."""
        from reprise.measures.statistics import bootstrap, bootstrap_mean

        names = data.quantities
        if not names or data.test == "train":
            reason = "targets.csv has no column of numbers" if not names else "there is no split to score"
            return ProbeResult({}, {"note": f"not run: {reason}"})
        protocol = {**scoring.targets_note(data, names), "tap": BACKBONE, "fit": "ridge regression in closed form"}
        metrics: dict[str, Figure] = {}
        left_out = []
        for name in names:
            known = {s: ~np.isnan(data.target(name, s)) for s in ("train", "val", data.test)}
            x = {s: data.features(s, BACKBONE)[rows] for s, rows in known.items()}
            y = {s: data.target(name, s)[rows] for s, rows in known.items()}
            if len(y["train"]) == 0 or len(np.unique(y[data.test])) < 2:
                left_out.append(name)
                continue
            why_not = may_choose(data, len(y["val"]))
            if why_not is None:
                errors = [
                    (float(np.mean((x["val"] @ w + b - y["val"]) ** 2)), -penalty, w, b)
                    for penalty, w, b in ridge_path(x["train"], y["train"], self.params.penalties)
                ]
                _, negative, weight, bias = min(errors, key=lambda e: e[:2])  # on equal errors the stronger penalty
                protocol[f"penalty of {name}"] = f"{-negative:g}, chosen on {len(y['val'])} val images"
            else:
                ((penalty, weight, bias),) = ridge_path(x["train"], y["train"], [self.params.penalty])
                protocol[f"penalty of {name}"] = f"{penalty:g}, not chosen ({why_not})"
            target, groups = y[data.test], data.part(data.test).groups
            residual = x[data.test] @ weight + bias - target
            groups = None if groups is None else groups[known[data.test]]
            low, high = bootstrap(
                lambda w, r=residual, t=target: r_squared(r, t, w),  # type: ignore[misc]
                len(target),
                groups,
                data.confidence,
            )
            metrics[f"r2_{name}"] = Figure(float(r_squared(residual, target)[0]), low, high, len(target))
            low, high = bootstrap_mean(np.abs(residual), groups, data.confidence)
            metrics[f"mae_{name}"] = Figure(float(np.abs(residual).mean()), low, high, len(target))
        protocol["left out"] = ", ".join(left_out) or "no quantity"
        explained = [figure.value for name, figure in metrics.items() if name.startswith("r2_")]
        if explained:
            metrics["r2"] = scoring.plain(float(np.mean(explained)), len(data.part(data.test)))
        return ProbeResult(metrics, protocol)
