"""How bodies look: rays meet planes exactly, and what is nearest to the camera is seen, lit by Lambert's law.

The camera is orthographic and looks along -z: x points to the right and y upwards, both from -1 to 1 over the picture.
A ray leaves a convex body where the first of the planes that face the camera bounds it, and enters it behind the last
of those that face away, so neither triangles nor a search is needed.

Legend: s side of the grid of rays, f faces of a body.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.ingest.solids.bodies import Body

AMBIENT = 0.3  # share of the light that comes from everywhere
_EDGE_ON = 1e-9  # planes whose normals have a smaller z are parallel to the rays


def seen(
    bodies: Sequence[Body], turn: np.ndarray, light: np.ndarray, side: int, fills: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Look at turned bodies.

    Args:
        bodies: of an object, within 1 of the origin.
        turn: (3, 3) matrix that turns the object's axes into the camera's.
        light: (3,) of length one, from the object towards the light, in the camera's axes.
        side: s.
        fills: share of half the side that a point at distance 1 from the centre has.

    Returns:
        (s, s) brightness from 0 to 1, and (s, s) depth: z of what is seen, -inf where nothing is.
    """
    points = ((2 * np.arange(side) + 1) / side - 1) / fills
    depth, brightness = np.full((side, side), -np.inf), np.zeros((side, side))
    for body in bodies:
        x, y, _ = turn @ body.centre
        columns = _window(x * fills, body.radius * fills, side)
        rows = _window(-y * fills, body.radius * fills, side)
        normals = body.normals @ turn.T
        z, face = _nearest(normals, body.offsets, points[columns], -points[rows])
        lit = AMBIENT + (1 - AMBIENT) * np.maximum(normals @ light, 0.0)
        before = z > depth[rows, columns]
        depth[rows, columns] = np.where(before, z, depth[rows, columns])
        brightness[rows, columns] = np.where(before, body.shade * lit[face], brightness[rows, columns])
    return brightness, depth


def _window(centre: float, radius: float, side: int) -> slice:
    """Return the points of the grid within `radius` of `centre`, along one axis."""
    first, last = ((edge + 1) / 2 * side - 0.5 for edge in (centre - radius, centre + radius))
    return slice(max(0, int(np.floor(first))), min(side, int(np.ceil(last)) + 1))


def _nearest(normals: np.ndarray, offsets: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find where rays meet a body.

    Args:
        normals: (f, 3) in the camera's axes.
        offsets: (f,).
        x: (columns,) of the rays.
        y: (rows,) of the rays.

    Returns:
        (rows, columns) z, -inf where a ray misses the body; and the number of the face that it meets.
    """
    left = (offsets[:, None] - normals[:, :1] * x)[:, None, :] - (normals[:, 1:2] * y)[:, :, None]  # n_z z <= left
    towards, away = normals[:, 2] > _EDGE_ON, normals[:, 2] < -_EDGE_ON
    edge_on = ~(towards | away)
    front = left[towards] / normals[towards, 2, None, None]
    back = (left[away] / normals[away, 2, None, None]).max(axis=0)
    face = front.argmin(axis=0)
    z = np.take_along_axis(front, face[None], axis=0)[0]
    hit = (z >= back) & (left[edge_on] >= 0).all(axis=0)
    return np.where(hit, z, -np.inf), np.flatnonzero(towards)[face]
