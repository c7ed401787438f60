"""Rotations as unit quaternions (w, x, y, z): products, matrices, angles, and the one sign that this package uses.

q and -q are the same rotation, so a function of the numbers would answer one question in two ways. `upright` chooses
the one of them whose first number that is not 0 is positive: w >= 0, an angle of at most 180 degrees.

Source: W. R. Hamilton, "On quaternions", 1844; the angle of a rotation drawn uniformly: Miles, "On random rotations in
R^3", Biometrika 1965.

Shape legend: ... any leading dimensions, the same for both arguments.
"""

from __future__ import annotations

import math

import numpy as np


def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Multiply (..., 4) quaternions: the rotation that turns by `second` and then by `first`."""
    a, b = first[..., :1], second[..., :1]
    u, v = first[..., 1:], second[..., 1:]
    real = a * b - (u * v).sum(axis=-1, keepdims=True)
    return np.concatenate([real, a * v + b * u + np.cross(u, v)], axis=-1)


def inverse(quaternions: np.ndarray) -> np.ndarray:
    """Return the opposite rotations of (..., 4) unit quaternions."""
    return quaternions * np.array([1.0, -1.0, -1.0, -1.0])


def upright(quaternions: np.ndarray) -> np.ndarray:
    """Choose of q and -q the one whose first number that is not 0 is positive: (..., 4)."""
    leading = np.take_along_axis(quaternions, (quaternions != 0).argmax(axis=-1)[..., None], axis=-1)
    return np.where(leading < 0, -quaternions, quaternions)


def between(first: np.ndarray, second: np.ndarray, frame: str = "object") -> np.ndarray:
    """Return the rotation that leads from one pose to another, upright: (..., 4).

    Args:
        first, second: (..., 4) unit quaternions that turn the axes of an object into those of the camera.
        frame: `object` states it in the axes of the object (first^-1 second), `camera` in those of the camera
            (second first^-1).
    """
    if frame == "object":
        return upright(product(inverse(first), second))
    return upright(product(second, inverse(first)))


def matrices(quaternions: np.ndarray) -> np.ndarray:
    """Return the matrices of (..., 4) unit quaternions: (..., 3, 3), which turn columns."""
    w, x, y, z = np.moveaxis(quaternions, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def of_matrix(matrix: np.ndarray) -> np.ndarray:
    """Return the quaternion of a (3, 3) rotation matrix: (4,), upright, of length one.

    A matrix that is only nearly one (numbers of a text file) gives the nearest rotation: the eigenvector of Bar-Itzhack
    2000, "New method for extracting the quaternion from a rotation matrix".
    """
    m = np.asarray(matrix, dtype=np.float64)
    form = np.zeros((4, 4))
    form[0, 0] = m.trace()
    form[0, 1:] = form[1:, 0] = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    form[1:, 1:] = m + m.T - m.trace() * np.eye(3)
    vectors = np.linalg.eigh(form)[1]
    return upright(vectors[:, -1])


def degrees(quaternions: np.ndarray) -> np.ndarray:
    """Return the angles of (..., 4) unit quaternions, from 0 to 180 degrees."""
    along = np.linalg.norm(quaternions[..., 1:], axis=-1)
    return np.degrees(2 * np.arctan2(along, np.abs(quaternions[..., 0])))


def drawn(rng: np.random.Generator, most: float) -> np.ndarray:
    """Draw a rotation, uniformly among those of at most `most` degrees (180: among all): (4,), upright."""
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    angles = np.linspace(0.0, math.radians(most), 1025)
    below = angles - np.sin(angles)  # the volume of all rotations of a smaller angle, but for a factor
    angle = float(np.interp(rng.random() * below[-1], below, angles))
    return upright(np.concatenate([[math.cos(angle / 2)], math.sin(angle / 2) * axis]))
