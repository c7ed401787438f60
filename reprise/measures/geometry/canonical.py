"""Coordinates of a set of points that no turn, mirror image, shift or scale changes.

Source: TinvNN, which feeds a network with coordinates from multidimensional scaling in place of the points. Its paper
could not be read here, so this is the classical form (Torgerson, "Multidimensional Scaling: I. Theory and Method",
Psychometrika 1952), with axes and signs fixed.

Distances between points do not change when the points are moved. Double centring turns them into inner products, whose
leading eigenvectors are coordinates again:

    B = -1/2 H D^2 H,   H = 1 - 1/n,      B = U diag(l) U^T,      coordinates = U diag(sqrt(l))

They are unique but for the order of the axes, which is that of their spread, and for signs: each axis points to where
its third moment is positive. Division by the root mean square distance from the centre takes the scale out; `scale` has
it, so that distances are kept.

Deviations: distances cannot tell a set from its mirror image. Where two axes have the same spread, or an axis has no
third moment (a regular polygon, a cube), the coordinates are not determined; `gap` and `skew` say how far from that a
set is.

Shape legend: n points, d dimensions.

Checked by: tests/reprise/measures/geometry/test_geometry.py (moved sets within 1e-6).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DETERMINED = 1e-6  # smallest gap and skew at which rounding does not decide


class Canonical(NamedTuple):
    """What became of a set.

    Attributes:
        points: (n, d) float64, of mean 0 and mean square length 1. Fewer points than axes leave the last axes at 0.
        scale: root mean square distance of the given points from their centre.
        gap: smallest difference of the spreads of two neighbouring axes, and of the last one from 0, as a share of all.
        skew: smallest absolute third moment of an axis, in units of its spread.
    """

    points: np.ndarray
    scale: float
    gap: float
    skew: float

    @property
    def determined(self) -> bool:
        """Tell whether order and signs of the axes are those of every moved copy."""
        return min(self.gap, self.skew) > DETERMINED


def canonical(points: np.ndarray, dimensions: int | None = None) -> Canonical:
    """Find the canonical coordinates of (n, d) points.

    Args:
        points: at least two different ones.
        dimensions: of the coordinates, at most d; all where it is None.

    Raises:
        ValueError: a point is not finite, or all points are equal.
    """
    x = np.asarray(points, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("a coordinate of a point is not finite")
    squared = np.square(x[:, None] - x[None]).sum(axis=2)
    scale = float(np.sqrt(squared.mean() / 2))  # the mean square distance of two points is twice that from the centre
    if len(x) < 2 or scale == 0:
        raise ValueError("canonical coordinates need two different points")
    centred = squared / scale**2
    centred = centred - centred.mean(axis=0) - centred.mean(axis=1)[:, None] + centred.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    wanted = min(dimensions or x.shape[1], x.shape[1])
    missing = max(0, wanted - len(x))  # n points have n eigenvectors; further axes have no spread
    spread = np.pad(np.maximum(values[::-1][:wanted], 0.0), (0, missing))
    axes = np.pad(vectors[:, ::-1][:, :wanted], ((0, 0), (0, missing)))
    moment = np.sqrt(len(x)) * (axes**3).sum(axis=0)  # E[a^3] / E[a^2]^(3/2)
    share = spread / spread.sum()
    gap = float(np.append(share[:-1] - share[1:], share[-1]).min())
    found = axes * np.sqrt(spread) * np.where(moment < 0, -1.0, 1.0)
    return Canonical(found, scale, gap, float(np.abs(moment).min()))
