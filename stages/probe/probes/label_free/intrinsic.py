"""Intrinsic dimension: how many directions do the training features vary in, locally?

Source: maximum likelihood (Levina and Bickel 2004, averaged as MacKay and Ghahramani 2005), two-NN (Facco et al. 2017);
used on representations by Ansuini et al. 2019 and Konz and Mazurowski 2024. Euclidean distances between raw features.
Deviation: repeated features are left out (they are at distance zero) and counted in the protocol. No interval: copies,
as a bootstrap draws them, would be at distance zero. Both estimates assume that the density is even within a
neighbourhood, so they see the scale of the nearest neighbours: noise raises them, and in many dimensions (above about
ten at a few thousand points) they fall short.

Legend: `x_ND` points (n, d); `t_NK` distances to the k nearest others, increasing.

Checked by: tests/stages/probe/label_free/test_intrinsic.py; tests/stages/probe/label_free/test_intrinsic_figures.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult

KEPT_RATIOS = 0.9  # Facco et al. 2017 leave out the largest tenth
FEWEST = 10  # distinct points below which there is nothing to estimate
_SPARE = 8  # candidates beyond k that are measured exactly
_BLOCK = 512  # rows at a time


def distinct_rows(x_ND: np.ndarray) -> np.ndarray:
    """`x_ND` without repeated rows, in float64; order by value."""
    return np.unique(np.asarray(x_ND, dtype=np.float64), axis=0)


def neighbour_distances(x_ND: np.ndarray, k: int) -> np.ndarray:
    """(n, k) Euclidean distances to the k nearest other rows, increasing; float64, memory bounded by 512 rows.

    Candidates come from a product, their distances from differences, so that close pairs are not lost to rounding.

    Raises:
        ValueError: k < 1 or fewer than k + 1 rows.
    """
    x = np.asarray(x_ND, dtype=np.float64)
    n = len(x)
    if k < 1 or n < k + 1:
        raise ValueError(f"{k} neighbours need more than {k} rows, got {n}")
    centred = x - x.mean(axis=0)
    squared = (centred * centred).sum(axis=1)
    wanted = min(n - 1, k + _SPARE)
    found = np.empty((n, k))
    for start in range(0, n, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n))
        rough = squared[None, :] - 2 * centred[rows] @ centred.T  # the row's own length changes no order
        rough[np.arange(len(rows)), rows] = np.inf
        near = np.argpartition(rough, wanted - 1, axis=1)[:, :wanted]
        exact = np.empty((len(rows), wanted))
        for column in range(wanted):
            exact[:, column] = np.linalg.norm(x[rows] - x[near[:, column]], axis=1)
        exact.sort(axis=1)
        found[rows] = exact[:, :k]
    return found


def maximum_likelihood(t_NK: np.ndarray) -> float:
    """Levina and Bickel 2004, the points' estimates averaged as MacKay and Ghahramani 2005 showed: by their inverses.

    1 / d is the mean over points and j < k of log(T_k / T_j).

    Raises:
        ValueError: fewer than two neighbours, or a distance of zero.
    """
    if t_NK.shape[1] < 2 or (t_NK[:, 0] <= 0).any():
        raise ValueError("needs two neighbours or more, none at distance zero")
    inverse = float(np.log(t_NK[:, -1:] / t_NK[:, :-1]).mean())
    return float("inf") if inverse == 0 else 1 / inverse


def two_nn(t_NK: np.ndarray) -> float:
    """Facco et al. 2017: mu = T_2 / T_1 has the distribution 1 - mu^-d; a line through the origin gives d.

    The largest tenth of the ratios is left out, as in the paper: there the assumption fails first.

    Raises:
        ValueError: fewer than two neighbours, or a distance of zero.
    """
    if t_NK.shape[1] < 2 or (t_NK[:, 0] <= 0).any():
        raise ValueError("needs two neighbours or more, none at distance zero")
    n = len(t_NK)
    log_mu = np.sort(np.log(t_NK[:, 1] / t_NK[:, 0]))
    kept = max(1, int(n * KEPT_RATIOS))
    empirical = np.arange(1, n + 1)[:kept] / n
    u, v = log_mu[:kept], -np.log1p(-np.minimum(empirical, 1 - 0.5 / n))
    length = float(u @ u)
    return float("inf") if length == 0 else float(u @ v) / length


class Intrinsic(Probe):
    """Metrics, on train: `mle`, `two_nn`, and `two_nn_half` on half of the images: does scale matter?"""

    needs_labels: ClassVar[bool] = False

    class Params(StrictModel):
        """Parameters of `intrinsic`."""

        rows: Annotated[
            int,
            Field(ge=20, le=20_000),
            meaning("At most this many training images are used, chosen by the hash of their keys.", "images"),
        ] = 5000
        k: Annotated[
            int,
            Field(ge=2, le=200),
            meaning("The likelihood of the dimension counts this many neighbours.", "neighbours"),
        ] = 20

    def run(self, data: ProbeData) -> ProbeResult:
        """Distances once for all images, once for half of them."""
        chosen = data.choose("train", self.params.rows)
        features = data.features("train", BACKBONE)[chosen]
        x, half = distinct_rows(features), distinct_rows(features[::2])
        if len(half) < FEWEST:
            return ProbeResult({}, {"note": f"not run: {len(x)} distinct training features are too few"})
        k = min(self.params.k, len(x) - 1)
        distances = neighbour_distances(x, k)
        found = {
            "mle": (maximum_likelihood(distances), len(x)),
            "two_nn": (two_nn(distances), len(x)),
            "two_nn_half": (two_nn(neighbour_distances(half, 2)), len(half)),
        }
        protocol = {
            "tap": BACKBONE,
            "images": f"{len(chosen)} of train, {len(chosen) - len(x)} with features of another left out",
            "dimensions": f"{features.shape[1]}",
            "k": f"{k}",
            "interval": "none: copies would be at distance zero",
        }
        metrics = {name: Figure(value, None, None, n) for name, (value, n) in found.items() if value < float("inf")}
        return ProbeResult(metrics, protocol)
