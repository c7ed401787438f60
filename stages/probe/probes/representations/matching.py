"""Do two encoders learn the same units? Correlations between single dimensions, matched four ways.

Source: Li et al. 2016 (convergent learning). Row a, column b: `one_to_one`, mean correlation when each unit of a has a
unit of b of its own (the best such matching); `semi`, when several may share one; `sparse`, share of the variance of
a's units that few units of b predict under an l1 penalty, and `sparse_units`, how many; `spectral`, modularity of a
spectral clustering of both encoders' units by absolute correlation (0: no clusters). These see single units: a rotated
copy of an encoder has the same information and other units. `chance` is `one_to_one` after the images of one encoder
were shuffled.
Deviations: features are vectors, so a unit is a dimension and not a channel of a feature map; the `units` dimensions
that vary most are matched; the l1 problem is solved by FISTA for all units at once.

Legend: `x_ND`, `y_NE` features of the same n examples; `c_DE` correlations between their units.

Checked by: tests/stages/probe/representations/test_representation_figures.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe.encoder import Encoder, Examples, RepresentationProbe

_STEPS = 500  # of FISTA at most
_TOLERANCE = 1e-6  # largest change of a coefficient


def standardised(x_ND: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and standard deviation 1; a dead unit (no spread) stays 0 instead of becoming NaN."""
    x = np.asarray(x_ND, dtype=np.float64)
    x = x - x.mean(axis=0)
    std = x.std(axis=0)
    alive = std > 1e-7 * max(float(std.max(initial=0.0)), 1e-30)
    return np.asarray(np.where(alive, x / np.where(alive, std, 1.0), 0.0))


def correlations(x_ND: np.ndarray, y_NE: np.ndarray) -> np.ndarray:
    """(d, e) Pearson correlations between units; 0 with a dead one."""
    return np.asarray(standardised(x_ND).T @ standardised(y_NE) / len(x_ND))


def one_to_one(c_DE: np.ndarray) -> np.ndarray:
    """Correlations of the pairs of a maximum-weight bipartite matching, in row order; (min(d, e),)."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(c_DE, maximize=True)
    return np.asarray(c_DE[rows, columns])


def semi_matching(c_DE: np.ndarray) -> np.ndarray:
    """(d,) correlation of each unit with its best counterpart, which several may share; never below one-to-one."""
    return np.asarray(c_DE.max(axis=1))


def sparse_prediction(x_ND: np.ndarray, y_NE: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Predict each unit of x from few units of y: minimises |x - y b|^2 / (2 n) + penalty |b|_1 on standardised units.

    Returns:
        (d,) share of variance explained (0 for dead units), (d,) units used.
    """
    x, y = standardised(x_ND), standardised(y_NE)
    n = len(x)
    gram, cross = y.T @ y / n, y.T @ x / n
    step = 1 / max(float(np.linalg.eigvalsh(gram)[-1]), 1e-12)
    b = ahead = np.zeros_like(cross)
    t = 1.0
    for _ in range(_STEPS):
        moved = ahead - step * (gram @ ahead - cross)
        new = np.sign(moved) * np.maximum(np.abs(moved) - step * penalty, 0.0)
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        ahead = new + (t - 1) / t_next * (new - b)
        change, b, t = float(np.abs(new - b).max(initial=0.0)), new, t_next
        if change < _TOLERANCE:
            break
    total = (x * x).mean(axis=0)
    left = ((x - y @ b) ** 2).mean(axis=0)
    return np.where(total > 0, 1 - left / np.where(total > 0, total, 1.0), 0.0), (b != 0).sum(axis=0)


def spectral_clusters(c_DE: np.ndarray, clusters: int) -> np.ndarray:
    """(d + e,) cluster of each unit: spectral clustering of the bipartite graph of |correlation|.

    The normalised graph's leading eigenvectors (Ng et al. 2001), assigned by a pivoted QR (Damle et al. 2019), which
    unlike k-means has no random start.
    """
    from scipy.linalg import qr

    d, e = c_DE.shape
    graph = np.zeros((d + e, d + e))
    graph[:d, d:] = np.abs(c_DE)
    graph[d:, :d] = np.abs(c_DE).T
    degree = graph.sum(axis=1)
    scale = 1 / np.sqrt(np.where(degree > 0, degree, 1.0))
    vectors = np.linalg.eigh(scale[:, None] * graph * scale[None, :])[1][:, -min(clusters, d + e) :]
    pivots = qr(vectors.T, pivoting=True, mode="r")[1][: vectors.shape[1]]
    u, _, v = np.linalg.svd(vectors[pivots].T)
    return np.asarray(np.abs(vectors @ (u @ v)).argmax(axis=1))


def modularity(c_DE: np.ndarray, labels: np.ndarray) -> float:
    """Newman 2006: share of |correlation| inside the clusters, less what their units' totals alone would put there.

    0: no groups; towards 1: the units of both networks fall into groups that keep to themselves.
    """
    weight = np.abs(c_DE)
    total = float(weight.sum())
    if total == 0:
        return 0.0
    d = c_DE.shape[0]
    found = 0.0
    for cluster in np.unique(labels):
        rows, columns = labels[:d] == cluster, labels[d:] == cluster
        ends = float(weight[rows].sum() + weight[:, columns].sum()) / (2 * total)
        found += float(weight[np.ix_(rows, columns)].sum()) / total - ends**2
    return found


class Matching(RepresentationProbe):
    """Metrics: `one_to_one`, `semi`, `sparse`, `sparse_units`, `spectral`, `chance`."""

    symmetric: ClassVar[bool] = False
    caption: ClassVar[str] = "units of the row matched with units of the column; chance: with shuffled images"

    class Params(StrictModel):
        """Parameters of `matching`."""

        units: Annotated[
            int,
            Field(ge=1, le=2048),
            meaning("At most this many units of each encoder are matched, those that vary most.", "units"),
        ] = 256
        penalty: Annotated[
            float, Field(gt=0, le=10), meaning("The l1 penalty on standardised units has this weight.")
        ] = 0.1
        clusters: Annotated[
            int,
            Field(ge=2, le=1000),
            meaning("The units of both encoders together fall into this many clusters.", "clusters"),
        ] = 16

    def prepare(self, encoder: Encoder, examples: Examples) -> np.ndarray:
        """The units that vary most, in their own order."""
        spread = encoder.test.astype(np.float64).std(axis=0)
        kept = np.sort(np.argsort(-spread, kind="stable")[: self.params.units])
        return np.asarray(encoder.test[:, kept])

    def compare(self, a: np.ndarray, b: np.ndarray) -> dict[str, float | None]:
        """Units of a in terms of units of b."""
        c = correlations(a, b)
        explained, used = sparse_prediction(a, b, self.params.penalty)
        clusters = spectral_clusters(c, self.params.clusters)
        order = np.random.default_rng(0).permutation(len(a))
        return {
            "one_to_one": float(one_to_one(c).mean()),
            "semi": float(semi_matching(c).mean()),
            "sparse": float(explained.mean()),
            "sparse_units": float(used.mean()),
            "spectral": modularity(c, clusters),
            "chance": float(one_to_one(correlations(a, b[order])).mean()),
        }

    def protocol(self, examples: Examples) -> dict[str, str]:
        """Which images and units."""
        return {
            "tap": "backbone",
            "images": f"{len(examples.test_keys)} of {examples.scored}",
            "units": f"at most {self.params.units} of each encoder, those that vary most",
            "l1 penalty": f"{self.params.penalty:g}",
            "clusters": f"{self.params.clusters}",
        }
