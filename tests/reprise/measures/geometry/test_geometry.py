"""Linear maps and sets of points: round trips, invariances, and where they end."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm, logm

from reprise.measures.geometry import affine, canonical, frames


def gaussian_maps(count: int, seed: int = 0) -> np.ndarray:
    """Matrices with independent normal entries and a positive determinant."""
    drawn = np.random.default_rng(seed).normal(size=(3 * count, 2, 2))
    return drawn[np.linalg.det(drawn) > 0][:count]


def turn(dimensions: int, seed: int, proper: bool = False) -> np.ndarray:
    found, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimensions, dimensions)))
    return found * np.array([*[1.0] * (dimensions - 1), np.linalg.det(found)]) if proper else found


# ---------------------------------------------------------------------------------------------------- affine
def test_ten_thousand_maps_come_back():
    maps = gaussian_maps(10_000)
    polar = affine.taken_apart(maps)
    assert len(maps) == 10_000
    error = np.abs(affine.put_together(polar) - maps).max(axis=(1, 2)) / np.abs(maps).max(axis=(1, 2))
    assert error.max() <= 1e-10
    np.testing.assert_allclose(polar.stretch, polar.stretch.transpose(0, 2, 1), atol=1e-12)
    rotations = affine.turns(polar.angle)
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(2), (10_000, 1, 1)), atol=1e-12)


def test_the_parts_are_those_of_scipy():
    from scipy.linalg import polar

    maps = gaussian_maps(50, seed=1)
    found = affine.taken_apart(maps)
    for own, angle, stretch in zip(maps, found.angle, found.stretch, strict=True):
        rotation, positive = polar(own)
        np.testing.assert_allclose(affine.turns(angle[None])[0], rotation, atol=1e-9)
        np.testing.assert_allclose(expm(stretch), positive, rtol=1e-8, atol=1e-10)


def test_coordinates_are_unique():
    """Any angle and symmetric matrix come back from the map that they make."""
    rng = np.random.default_rng(2)
    angle, entries = rng.uniform(-np.pi, np.pi, 500), rng.normal(size=(500, 2, 2))
    stretch = (entries + entries.transpose(0, 2, 1)) / 2
    back = affine.taken_apart(affine.put_together(affine.Polar(angle, stretch)))
    np.testing.assert_allclose(back.angle, angle, atol=1e-9)
    np.testing.assert_allclose(back.stretch, stretch, atol=1e-9)


def test_a_fifth_of_gaussian_maps_have_no_real_logarithm():
    maps = gaussian_maps(10_000)
    have = affine.have_real_logarithm(maps)
    assert 1 - have.mean() == pytest.approx(0.207, abs=4 * (0.207 * 0.793 / 10_000) ** 0.5)
    for own, real in list(zip(maps, have, strict=True))[:300]:
        logarithm = np.asarray(logm(own))
        imaginary = np.abs(logarithm.imag).max() if np.iscomplexobj(logarithm) else 0.0
        assert (imaginary < 1e-9) == real
    assert affine.have_real_logarithm(np.array([-np.eye(2), [[-1, 1], [0, -1]], [[1, 1], [0, 1]]])).tolist() == [
        True,
        False,
        True,
    ]


def test_mirror_images_are_refused():
    with pytest.raises(ValueError, match="map 1 has no positive determinant"):
        affine.taken_apart(np.array([np.eye(2), np.diag([1.0, -1.0])]))


# ------------------------------------------------------------------------------------------------- canonical
@pytest.mark.parametrize("dimensions", [2, 3, 5])
def test_canonical_coordinates_do_not_move(dimensions):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        points = rng.gamma(2.0, size=(40, dimensions)) * np.arange(1, dimensions + 1)
        found = canonical.canonical(points)
        moved = 3.7 * points @ turn(dimensions, seed) + rng.normal(size=dimensions) * 100
        again = canonical.canonical(moved)
        assert found.determined
        np.testing.assert_allclose(again.points, found.points, atol=1e-6)
        assert again.scale == pytest.approx(3.7 * found.scale, rel=1e-9)
        own = np.linalg.norm(points[:, None] - points[None], axis=2)
        kept = np.linalg.norm(found.points[:, None] - found.points[None], axis=2) * found.scale
        np.testing.assert_allclose(kept, own, atol=1e-6)


def test_canonical_coordinates_follow_the_order_of_the_points():
    points = np.random.default_rng(0).gamma(2.0, size=(12, 3)) * [1, 2, 3]
    order = np.random.default_rng(1).permutation(12)
    np.testing.assert_allclose(
        canonical.canonical(points[order]).points, canonical.canonical(points).points[order], atol=1e-9
    )


def test_fewer_points_than_axes_leave_the_last_axes_at_0():
    points = np.random.default_rng(0).normal(size=(3, 5))
    found = canonical.canonical(points)
    assert found.points.shape == (3, 5)
    assert np.abs(found.points[:, 2:]).max() < 1e-7  # three points lie in a plane
    own = np.linalg.norm(points[:, None] - points[None], axis=2)
    kept = np.linalg.norm(found.points[:, None] - found.points[None], axis=2) * found.scale
    np.testing.assert_allclose(kept, own, atol=1e-6)
    assert not found.determined
    assert canonical.canonical(points, 2).points.shape == (3, 2)


def test_where_canonical_coordinates_are_not_determined():
    cube = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
    assert not canonical.canonical(cube).determined
    flat = np.random.default_rng(0).gamma(2.0, size=(20, 2)) * [1, 2]
    assert not canonical.canonical(np.pad(flat, ((0, 0), (0, 1)))).determined  # a third axis without spread
    assert canonical.canonical(np.pad(flat, ((0, 0), (0, 1))), 2).determined
    for bad, words in ((np.ones((4, 2)), "two different points"), (np.array([[0.0, np.nan]]), "not finite")):
        with pytest.raises(ValueError, match=words):
            canonical.canonical(bad)


# ---------------------------------------------------------------------------------------------------- frames
WEIGHTS = np.random.default_rng(5).normal(size=(3, 8))


def uneven(points: np.ndarray) -> np.ndarray:
    """A function of points without any symmetry but that of their order."""
    return np.tanh(points @ WEIGHTS + np.linspace(-1, 1, 8)).mean(axis=0)


@pytest.mark.parametrize("proper", [False, True])
def test_an_average_over_the_frame_is_invariant(proper):
    for seed in range(20):
        points = np.random.default_rng(seed).normal(size=(30, 3)) * [1, 2, 3]
        moved = points @ turn(3, seed, proper) + 5.0
        assert frames.frames(points)[1] > 1e-3
        assert np.abs(frames.averaged(uneven, moved, proper) - frames.averaged(uneven, points, proper)).max() < 1e-10
    mirrored = frames.averaged(uneven, points * [-1, 1, 1], proper)
    assert (np.abs(mirrored - frames.averaged(uneven, points, proper)).max() > 1e-6) == proper


def test_an_average_over_the_frame_of_a_cube_is_not():
    """Its axes are not unique: the figure is the one that the file states."""
    cube = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
    found = [frames.averaged(uneven, cube @ turn(3, seed)) for seed in range(20)]
    assert frames.frames(cube)[1] < 1e-12
    assert np.ptp(found, axis=0).max() == pytest.approx(0.15, abs=0.005)
