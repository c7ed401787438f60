"""mini3d: poses that are those of the pixels, objects that lie in one split, and views that depend on nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.artifacts.facts.sides import Sides
from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.layout import INGEST
from reprise.artifacts.manifest import read_manifest
from reprise.measures.geometry.quaternions import drawn, matrices
from reprise.media.image.sides import decode_side
from stages.ingest.__main__ import main as ingest
from stages.ingest.scan import scan
from stages.ingest.solids.bodies import KINDS, build
from stages.ingest.solids.look import AMBIENT, seen
from stages.ingest.sources.mini3d import Mini3d
from stages.shard.__main__ import main as shard

UP = np.array([0.0, 0.0, 1.0])


def source(**options: Any) -> Mini3d:
    return Mini3d(Path(), Mini3d.Params(**options))


def test_a_view_is_a_function_of_seed_object_and_number() -> None:
    few, many = list(source(objects=10, views=2).candidates()), list(source(objects=12, views=3).candidates())
    named = {c.name: c for c in many}
    for candidate in few:
        assert named[candidate.name].reference == candidate.reference
        assert named[candidate.name].facts["pose"] == candidate.facts["pose"]
    assert len({c.reference for c in many}) == 36
    other = next(iter(source(objects=10, views=2, seed=1).candidates()))
    assert other.reference != few[0].reference
    assert len({source(**options).extent().digest for options in ({}, {"seed": 1}, {"turn": 30})}) == 3


def test_poses_are_unit_quaternions_of_one_sign_within_the_range() -> None:
    for candidate in source(objects=20, views=3, turn=60.0).candidates():
        pose = np.array(candidate.facts["pose"])
        assert np.linalg.norm(pose) == pytest.approx(1, abs=1e-8)
        assert pose[0] >= np.cos(np.radians(30)) - 1e-8  # half of 60 degrees, and no negative sign
        assert pose.tolist() == [candidate.facts[f"pose_{part}"] for part in "wxyz"]
        assert candidate.group == candidate.facts["object"] == candidate.name.split("/")[1]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_seen_is_what_a_search_through_the_bodies_finds(kind: str) -> None:
    """Along a ray, the last of many points that lie inside of a body is where the renderer sees it."""
    rng = np.random.default_rng(3)
    bodies, turn, light = build(kind, rng), matrices(drawn(rng, 180.0)), np.array([0.6, 0.0, 0.8])
    side = 24
    brightness, depth = seen(bodies, turn, light, side)
    z = np.linspace(-1, 1, 4001)
    seen_once = 0
    for row, column in rng.integers(side, size=(60, 2)):
        x, y = (2 * column + 1) / side - 1, 1 - (2 * row + 1) / side
        points = np.stack([np.full_like(z, x), np.full_like(z, y), z]).T @ turn  # the transpose turns them back
        inside = [(body.normals @ points.T <= body.offsets[:, None]).all(axis=0) for body in bodies]
        if not np.any(inside):
            assert depth[row, column] == -np.inf or thin(bodies, points, depth[row, column], z)
            continue
        seen_once += 1
        expected = max(z[lit].max() for lit in inside if lit.any())
        assert depth[row, column] == pytest.approx(expected, abs=6e-4)
        assert AMBIENT * 0.6 - 1e-9 <= brightness[row, column] <= 1
    assert seen_once > 3


def thin(bodies: list[Any], points: np.ndarray, depth: float, z: np.ndarray) -> bool:
    """Whether a ray passes through a body between two of the points of the search."""
    at = points[0] + (points[1] - points[0]) * (depth - z[0]) / (z[1] - z[0])
    return any((body.normals @ at <= body.offsets + 1e-9).all() for body in bodies)


def test_turning_the_object_by_the_pose_is_turning_the_picture() -> None:
    """A quarter turn about the camera's axis turns the picture counter-clockwise, light and all."""
    bodies = build("chair", np.random.default_rng(0))
    base = matrices(drawn(np.random.default_rng(1), 180.0))
    quarter = matrices(np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)]))
    plain, depth = seen(bodies, base, UP, 40)
    turned, turned_depth = seen(bodies, quarter @ base, UP, 40)
    np.testing.assert_array_equal(np.isfinite(turned_depth), np.rot90(np.isfinite(depth)))
    np.testing.assert_allclose(turned, np.rot90(plain), atol=1e-9)


def test_no_kind_looks_the_same_after_a_turn() -> None:
    """After half and quarter turns about axes and edges other faces are seen, so that the pose can be read."""
    every = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 4), -1).reshape(-1, 4)
    turns = [q for q in every if 0 < (q != 0).sum() <= 2 and q[1:].any()]
    base = matrices(drawn(np.random.default_rng(2), 180.0))
    light = np.array([0.36, 0.48, 0.8])
    for kind in KINDS:
        bodies = build(kind, None)
        plain, _ = seen(bodies, base, light, 48)
        for q in turns:
            other, _ = seen(bodies, base @ matrices(q / np.linalg.norm(q)), light, 48)
            assert np.abs(plain - other).sum() > 0.08 * plain.sum(), (kind, q)


def test_objects_differ_lie_inside_the_picture_and_fill_it() -> None:
    shapes = source(objects=30, views=2, size=40)
    masks = [candidate.facts["mask"] for candidate in shapes.candidates()]
    assert all(0.03 < mask.mean() < 0.7 for mask in masks)
    assert not any(np.concatenate([m[0], m[-1], m[:, 0], m[:, -1]]).any() for m in masks)
    assert {candidate.label for candidate in shapes.candidates()} == set(KINDS)
    for i in range(30):
        for body in shapes.solid(i).bodies:
            assert np.linalg.norm(body.centre) <= 1


def test_all_views_of_an_object_lie_in_one_split_and_poses_beside_their_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        json.dumps({"source": {"name": "mini3d", "options": {"objects": 30, "views": 4, "size": 24}}, "shard": {}})
    )
    scan()
    ingest([])
    shard([])
    manifest, facts = read_manifest(), read_facts(INGEST)
    by_object: dict[str, set[str]] = {}
    for name, split in zip(manifest["group"].to_pylist(), manifest["split"].to_pylist(), strict=True):
        by_object.setdefault(name, set()).add(split)
    assert len(by_object) == 30 and all(len(splits) == 1 for splits in by_object.values())
    assert len(set.union(*by_object.values())) == 3
    assert [fact.name for fact in facts.declared if fact.use == "given"] == ["pose"]
    sides = Sides()
    for i, key in enumerate(facts.keys.tolist()[:10]):
        pose = decode_side("pose", sides.read(key, "pose"), key)
        assert list(pose) == [facts.columns[f"pose_{part}"][i] for part in "wxyz"]
