"""Objects made of convex bodies: eight kinds, each with proportions of its own. None looks the same after a turn.

A body is a box from which planes may cut something off, given in the box's own coordinates (-1 to 1 along each side):
(a, b, c, d) keeps the points with a u + b v + c w <= d. An object has x to the right, y upwards and z towards the
viewer when it is not turned, and all of it lies within 1 of its centre.

Legend: f faces of a body.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Point = tuple[float, float, float]
Plane = tuple[float, float, float, float]

_STRETCH = (0.75, 1.3)  # of an object along each axis, and of a part's own sides
_SHADE = (0.6, 1.0)  # brightness of a part, as a share of the object's colour
_BOX: tuple[Plane, ...] = ((1, 0, 0, 1), (-1, 0, 0, 1), (0, 1, 0, 1), (0, -1, 0, 1), (0, 0, 1, 1), (0, 0, -1, 1))
_GABLE: tuple[Plane, ...] = ((2, 1, 0, 1), (-2, 1, 0, 1))
_BOW: tuple[Plane, ...] = ((1, 0, 1, 1.2), (-1, 0, 1, 1.2))
_NOSE: tuple[Plane, ...] = (*_BOW, (0, 1, 1, 1.2), (0, -1, 1, 1.2))
_KEEL: tuple[Plane, ...] = ((1, -0.5, 0, 0.8), (-1, -0.5, 0, 0.8))
_WEDGE: tuple[Plane, ...] = ((-1, 2, 0, 1), (-1, -2, 0, 1))
_WINDSCREEN: tuple[Plane, ...] = ((0, 1, 1, 1.3), (0, 1, -1, 1.6))
_WHEEL: tuple[Plane, ...] = ((0, 1, 1, 1.41), (0, 1, -1, 1.41), (0, -1, 1, 1.41), (0, -1, -1, 1.41))
_ROUND: tuple[Plane, ...] = ((1, 0, 1, 1.41), (1, 0, -1, 1.41), (-1, 0, 1, 1.41), (-1, 0, -1, 1.41))


class Part(NamedTuple):
    """A box around `centre` with half its sides, and what is cut off."""

    centre: Point
    half: Point
    cuts: tuple[Plane, ...] = ()


def _four(x: float, y: float, z: float, half: Point, cuts: tuple[Plane, ...] = ()) -> tuple[Part, ...]:
    """Legs or wheels at the corners of a rectangle."""
    return tuple(Part((i * x, y, j * z), half, cuts) for i in (-1, 1) for j in (-1, 1))


KINDS: dict[str, tuple[Part, ...]] = {
    "aeroplane": (
        Part((0, 0, 0), (0.14, 0.14, 0.9), _NOSE),
        Part((0, 0, 0.1), (0.9, 0.03, 0.2)),
        Part((0, 0, -0.75), (0.35, 0.03, 0.1)),
        Part((0, 0.25, -0.75), (0.03, 0.25, 0.12)),
    ),
    "boat": (
        Part((0, -0.2, 0), (0.35, 0.22, 0.9), _BOW + _KEEL),
        Part((0, 0.15, -0.3), (0.22, 0.15, 0.25)),
        Part((0, 0.5, 0.15), (0.04, 0.5, 0.04)),
    ),
    "car": (
        Part((0, -0.15, 0), (0.4, 0.2, 0.9)),
        Part((0, 0.2, -0.15), (0.34, 0.2, 0.5), _WINDSCREEN),
        *_four(0.4, -0.35, 0.5, (0.08, 0.18, 0.18), _WHEEL),
    ),
    "chair": (
        Part((0, 0, 0), (0.5, 0.06, 0.5)),
        Part((0, 0.5, -0.45), (0.5, 0.5, 0.06)),
        *_four(0.42, -0.4, 0.42, (0.06, 0.4, 0.06)),
    ),
    "dog": (
        Part((0, 0, 0), (0.22, 0.2, 0.55)),
        Part((0, 0.3, 0.6), (0.18, 0.18, 0.2)),
        Part((0, 0.22, 0.88), (0.09, 0.08, 0.12)),
        Part((0, 0.28, -0.58), (0.05, 0.24, 0.05)),
        *_four(0.15, -0.4, 0.42, (0.06, 0.25, 0.06)),
    ),
    "hammer": (
        Part((0, -0.2, 0), (0.07, 0.75, 0.07)),
        Part((0.1, 0.6, 0), (0.35, 0.15, 0.15)),
        Part((-0.43, 0.6, 0), (0.2, 0.13, 0.1), _WEDGE),
    ),
    "house": (
        Part((0, -0.25, 0), (0.6, 0.4, 0.45)),
        Part((0, 0.4, 0), (0.7, 0.3, 0.5), _GABLE),
        Part((0.35, 0.5, 0.2), (0.1, 0.35, 0.1)),
        Part((-0.2, -0.4, 0.7), (0.3, 0.25, 0.25)),
    ),
    "mug": (
        Part((0, 0, 0), (0.45, 0.55, 0.45), _ROUND),
        Part((0, -0.55, 0), (0.55, 0.08, 0.55), _ROUND),
        Part((0.58, 0.3, 0), (0.15, 0.06, 0.08)),
        Part((0.58, -0.2, 0), (0.15, 0.06, 0.08)),
        Part((0.7, 0.05, 0), (0.06, 0.3, 0.08)),
    ),
}


class Body(NamedTuple):
    """A convex body: the points p with normals @ p <= offsets.

    Attributes:
        normals: (f, 3) of length one, outwards.
        offsets: (f,).
        centre: (3,) of a ball around it.
        radius: of that ball.
        shade: its brightness, as a share of the object's colour.
    """

    normals: np.ndarray
    offsets: np.ndarray
    centre: np.ndarray
    radius: float
    shade: float


def build(kind: str, rng: np.random.Generator | None) -> list[Body]:
    """Build an object.

    Args:
        kind: one of KINDS.
        rng: draws its proportions and the brightness of its parts; None: those of the kind itself.

    Returns:
        Its bodies, all within 1 of the origin.
    """
    stretch, parts = np.ones(3) if rng is None else rng.uniform(*_STRETCH, size=3), KINDS[kind]
    centres = np.array([part.centre for part in parts]) * stretch
    halves = np.array([part.half for part in parts]) * stretch
    shades = np.linspace(1.0, 0.7, len(parts))
    if rng is not None:
        halves = halves * rng.uniform(*_STRETCH, size=halves.shape)
        shades = rng.uniform(*_SHADE, size=len(parts))
    centres = centres - (centres - halves).min(axis=0) / 2 - (centres + halves).max(axis=0) / 2
    radii = np.linalg.norm(halves, axis=1)
    shrink = 1.0 / float(np.linalg.norm(np.abs(centres) + halves, axis=1).max())
    return [
        _body(part.cuts, centre * shrink, half * shrink, float(radius * shrink), float(shade))
        for part, centre, half, radius, shade in zip(parts, centres, halves, radii, shades, strict=True)
    ]


def _body(cuts: tuple[Plane, ...], centre: np.ndarray, half: np.ndarray, radius: float, shade: float) -> Body:
    planes = np.array(_BOX + cuts, dtype=np.float64)
    normals = planes[:, :3] / half
    length = np.linalg.norm(normals, axis=1)
    offsets = (planes[:, 3] + normals @ centre) / length
    return Body(normals / length[:, None], offsets, centre, radius, shade)
