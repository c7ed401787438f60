"""Read a number of each image off its features: ridge regression, its penalty chosen on val, scored once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import PenaltyParams, may_choose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Reading(NamedTuple):
    """How a number was read off the scored images of which it is known.

    Attributes:
        residual: (n,) answers less the truth.
        target: (n,) the truth.
        groups: (n,) numbers of the groups, or None.
        penalty: which one was taken and why, for the protocol.
    """

    residual: np.ndarray
    target: np.ndarray
    groups: np.ndarray | None
    penalty: str


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


def read_quantity(data: ProbeData, name: str, params: PenaltyParams) -> Reading | None:
    """Fit on train, choose on val, answer the scored split; images whose value is unknown are left out.

    Returns:
        None where no image of train has the value, or it does not vary in the scored split.
    """
    known = {s: ~np.isnan(data.target(name, s)) for s in ("train", "val", data.test)}
    x = {s: data.features(s, BACKBONE)[rows] for s, rows in known.items()}
    y = {s: data.target(name, s)[rows] for s, rows in known.items()}
    if len(y["train"]) == 0 or len(np.unique(y[data.test])) < 2:
        return None
    why_not = may_choose(data, len(y["val"]))
    if why_not is None:
        errors = [
            (float(np.mean((x["val"] @ w + b - y["val"]) ** 2)), -penalty, w, b)
            for penalty, w, b in ridge_path(x["train"], y["train"], params.penalties)
        ]
        _, negative, weight, bias = min(errors, key=lambda e: e[:2])  # on equal errors the stronger penalty
        said = f"{-negative:g}, chosen on {len(y['val'])} val images"
    else:
        ((penalty, weight, bias),) = ridge_path(x["train"], y["train"], [params.penalty])
        said = f"{penalty:g}, not chosen ({why_not})"
    groups = data.part(data.test).groups
    residual = x[data.test] @ weight + bias - y[data.test]
    return Reading(residual, y[data.test], None if groups is None else groups[known[data.test]], said)
