"""Quaternions against scipy's rotations, one sign for each rotation, and a uniform draw."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from reprise.measures.geometry.quaternions import (
    between,
    degrees,
    drawn,
    inverse,
    matrices,
    of_matrix,
    product,
    upright,
)


def some(n: int = 200, seed: int = 0) -> np.ndarray:
    q = np.random.default_rng(seed).normal(size=(n, 4))
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def reference(q: np.ndarray) -> Rotation:
    return Rotation.from_quat(q, scalar_first=True)


def test_products_inverses_matrices_and_angles_are_those_of_scipy() -> None:
    a, b = some(), some(seed=1)
    np.testing.assert_allclose(matrices(product(a, b)), (reference(a) * reference(b)).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(matrices(inverse(a)), reference(a).inv().as_matrix(), atol=1e-12)
    np.testing.assert_allclose(degrees(a), np.degrees(reference(a).magnitude()), atol=1e-9)


def test_q_and_its_negative_are_one_rotation_with_one_sign() -> None:
    a = some()
    np.testing.assert_array_equal(upright(a), upright(-a))
    assert (upright(a)[:, 0] > 0).all()
    half_turn = np.array([[0.0, -0.6, 0.8, 0.0], [0.0, 0.0, 0.0, -1.0]])
    np.testing.assert_array_equal(upright(half_turn), -half_turn)
    np.testing.assert_array_equal(upright(half_turn), upright(-half_turn))


@pytest.mark.parametrize("frame", ["object", "camera"])
def test_the_rotation_between_two_poses_leads_from_one_to_the_other(frame: str) -> None:
    a, b = some(), some(seed=1)
    q = between(a, b, frame)
    np.testing.assert_allclose(upright(product(a, q) if frame == "object" else product(q, a)), upright(b), atol=1e-12)
    np.testing.assert_allclose(q, between(-a, b, frame), atol=0)
    np.testing.assert_allclose(degrees(between(a, a, frame)), 0, atol=1e-6)


@pytest.mark.parametrize("most", [20.0, 90.0, 180.0])
def test_rotations_are_drawn_uniformly_up_to_the_angle(most: float) -> None:
    """Angles follow the volume of rotations, t - sin t; axes have no direction; all draws have length one."""
    rng = np.random.default_rng(0)
    q = np.stack([drawn(rng, most) for _ in range(4000)])
    np.testing.assert_allclose(np.linalg.norm(q, axis=1), 1, atol=1e-12)
    angle = np.radians(degrees(q))
    assert angle.max() <= np.radians(most) + 1e-9
    share = (angle - np.sin(angle)) / (np.radians(most) - np.sin(np.radians(most)))
    np.testing.assert_allclose(np.sort(share), (np.arange(4000) + 0.5) / 4000, atol=0.035)  # Kolmogorov at 1e-4
    axes = q[:, 1:] / np.linalg.norm(q[:, 1:], axis=1, keepdims=True)
    assert np.abs(axes.mean(axis=0)).max() < 0.05
    np.testing.assert_allclose(axes.T @ axes / 4000, np.eye(3) / 3, atol=0.03)


def test_a_matrix_gives_its_quaternion_also_when_it_was_rounded() -> None:
    a = some()
    half_turns = np.array([[0.0, 1, 0, 0], [0, 0.6, -0.8, 0], [0, 0, 0, -1.0]])
    for q in np.concatenate([a, half_turns]):
        np.testing.assert_allclose(matrices(of_matrix(matrices(q))), matrices(q), atol=1e-12)
        rounded = of_matrix(np.round(matrices(q), 3))
        assert np.linalg.norm(rounded) == pytest.approx(1, abs=1e-12)
        assert degrees(between(rounded, q)) < 0.1
    np.testing.assert_allclose([of_matrix(matrices(q)) for q in a], upright(a), atol=1e-12)


def test_no_turn_is_the_identity() -> None:
    np.testing.assert_allclose(drawn(np.random.default_rng(0), 0.0), [1, 0, 0, 0], atol=1e-12)
