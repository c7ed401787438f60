"""Linear maps of the plane that keep orientation, taken apart into a turn and a stretch (polar form on GL+(2)).

Source: Mironenco, Forre, "Lie Group Decompositions for Equivariant Neural Networks", ICLR 2024.

Every A with positive determinant is A = R P in exactly one way: R a turn, P symmetric and positive definite. Both have
a real logarithm, an angle and a symmetric matrix, so every A has four coordinates:

    A = R(angle) exp(S),        exp(2 S) = A^T A

The matrix logarithm of A itself does not do. Of matrices with independent normal entries and a positive determinant,
20.7 % have none that is real: those with two different negative eigenvalues.

Deviations: nothing else of the paper is here; its equivariant networks are not built.

Shape legend: n maps, (n, 2, 2).

Checked by: tests/reprise/measures/geometry/test_geometry.py (10,000 round trips within 1e-10, scipy).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Polar(NamedTuple):
    """The coordinates of n maps.

    Attributes:
        angle: (n,) of the turns to the left where y points up, in radians between -pi and pi.
        stretch: (n, 2, 2) symmetric logarithms S of the stretches.
    """

    angle: np.ndarray
    stretch: np.ndarray


def taken_apart(maps: np.ndarray) -> Polar:
    """Take maps apart: (n, 2, 2) float64 -> their coordinates.

    The turn is that of A + cof(A), the nearest one to A; it is exact, without a singular value decomposition.

    Raises:
        ValueError: a determinant is not positive.
    """
    a = np.asarray(maps, dtype=np.float64)
    determinant = a[:, 0, 0] * a[:, 1, 1] - a[:, 0, 1] * a[:, 1, 0]
    if not (determinant > 0).all():
        raise ValueError(f"map {int(np.argmin(determinant > 0))} has no positive determinant: it mirrors, or is flat")
    angle = np.arctan2(a[:, 1, 0] - a[:, 0, 1], a[:, 0, 0] + a[:, 1, 1])
    stretch = turns(-angle) @ a
    values, axes = np.linalg.eigh((stretch + stretch.transpose(0, 2, 1)) / 2)
    # The product of both is known better than the smaller one, which cancels where a map is almost flat.
    values = np.stack([determinant / values[:, 1], values[:, 1]], axis=1)
    return Polar(angle, (axes * np.log(values)[:, None]) @ axes.transpose(0, 2, 1))


def put_together(polar: Polar) -> np.ndarray:
    """Return the maps of these coordinates: (n, 2, 2) float64."""
    values, axes = np.linalg.eigh(polar.stretch)
    return np.asarray(turns(polar.angle) @ (axes * np.exp(values)[:, None]) @ axes.transpose(0, 2, 1))


def turns(angle: np.ndarray) -> np.ndarray:
    """Return turns by (n,) angles in radians: (n, 2, 2)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cosine, -sine], axis=-1), np.stack([sine, cosine], axis=-1)], axis=-2)


def have_real_logarithm(maps: np.ndarray) -> np.ndarray:
    """Tell which of (n, 2, 2) maps with positive determinant are exp of a real matrix: (n,) bool.

    Those with two different negative eigenvalues are none, nor is a shear of a half turn: a negative eigenvalue must
    come in pairs of equal blocks, which in the plane leaves the multiples of the identity alone.
    """
    a = np.asarray(maps, dtype=np.float64)
    half = (a[:, 0, 0] + a[:, 1, 1]) / 2
    discriminant = ((a[:, 0, 0] - a[:, 1, 1]) / 2) ** 2 + a[:, 0, 1] * a[:, 1, 0]
    multiple = (a[:, 0, 1] == 0) & (a[:, 1, 0] == 0) & (a[:, 0, 0] == a[:, 1, 1])
    return np.asarray((discriminant < 0) | (half > 0) | multiple)
