"""The source `clips`: pictures, occlusion, boxes and flow against what is known of a scene, and its way to a miner."""

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
from reprise.media.image.decode import decode
from reprise.media.image.sides import decode_side
from stages.ingest.__main__ import main as ingest
from stages.ingest.drawn import scenes
from stages.ingest.drawn.scenes import WHOLE, Place, Scene, Thing, box_of, draw_scene, flow_of, hidden_share
from stages.ingest.scan import scan
from stages.ingest.sources.clips import Clips
from stages.mine.label_sets.label_set import manifest_facts
from stages.mine.miners.frame_matching import FrameMatching, MatchingParams
from stages.shard.__main__ import main as shard

RED, BLUE = (200.0, 40.0, 40.0), (40.0, 40.0, 200.0)


def clips(**options: Any) -> Clips:
    return Clips(Path(), Clips.Params(**options))


def squares(*places: Place, scale: float = 0.2) -> Scene:
    """One frame of equal squares, the nearest first, on a flat ground."""
    things = [Thing("square", RED if k == 0 else BLUE, "plain", scale) for k in range(len(places))]
    return Scene(things, [places], [(0.0, 0.0)], [1.0], (128.0, 128.0, 128.0), [])


def test_a_clip_is_a_function_of_seed_and_number() -> None:
    few, many = list(clips(clips=3).candidates()), list(clips(clips=5).candidates())
    assert [c.reference for c in many[: len(few)]] == [c.reference for c in few]
    assert next(iter(clips(clips=3, seed=1).candidates())).reference != few[0].reference
    digests = {clips(clips=3, **options).extent().digest for options in ({}, {"seed": 1}, {"camera": "pan"})}
    assert len(digests) == 3


@pytest.mark.parametrize("shift", [0.0, 0.07, 0.15, 0.5])
def test_the_hidden_share_is_the_overlap(shift: float) -> None:
    side = 2 * 0.2 * np.sqrt(0.5)
    scene = squares(Place(0.3, 0.5, 0.0), Place(0.3 + shift, 0.5, 0.0))
    assert hidden_share(scene, 0, 0) == 0
    assert hidden_share(scene, 0, 1) == pytest.approx(max(0.0, side - shift) / side, abs=0.03)


def test_a_box_goes_around_the_whole_shape_and_ends_at_the_window() -> None:
    scene = squares(Place(0.5, 0.4, 0.0), Place(0.95, 0.5, 0.0))
    half = 0.2 * np.sqrt(0.5) * 100
    np.testing.assert_allclose(box_of(scene, 0, 0, WHOLE, 100), (50 - half, 40 - half, 50 + half, 40 + half), atol=0.5)
    np.testing.assert_allclose(box_of(scene, 0, 1, WHOLE, 100), (95 - half, 50 - half, 100, 50 + half), atol=0.5)


def test_the_nearest_shape_is_in_front_and_all_pixels_have_an_owner() -> None:
    scene = squares(Place(0.4, 0.5, 0.0), Place(0.6, 0.5, 20.0))
    pixels, owner = draw_scene(scene, 0, WHOLE, 64, np.random.default_rng(0))
    for number, colour in ((0, (128.0,) * 3), (1, RED), (2, BLUE)):
        inner = pixels[owner == number].astype(float)
        assert np.abs(np.median(inner, axis=0) - colour).max() < 4
    assert owner[32, 32] == 1  # in both
    expected = (owner == 2).mean() / (0.2 * np.sqrt(0.5) * 2) ** 2
    assert expected == pytest.approx(1 - hidden_share(scene, 0, 1), abs=0.05)


@pytest.mark.parametrize("camera", ["still", "pan", "shake"])
def test_the_flow_carries_each_pixel_to_where_its_point_is_next(camera: Any, monkeypatch: Any) -> None:
    """A frame is made of the next one, looked up where the flow points, except where something is in between."""
    monkeypatch.setattr(scenes, "_NOISE", 0.0)
    size = 96
    for clip in range(4):
        drawn = clips(clips=4, frames=10, occlusion=1.0, camera=camera, sample="frames", size=size)
        scene = drawn.scene(clip)._replace(brightness=[1.0] * 10)
        here, owner = draw_scene(scene, 4, WHOLE, size, np.random.default_rng(0))
        there, owner_there = draw_scene(scene, 5, WHOLE, size, np.random.default_rng(0))
        flow = flow_of(scene, 4, owner)
        rows, columns = np.mgrid[:size, :size]
        x, y = np.rint(columns + flow[..., 0]).astype(int), np.rint(rows + flow[..., 1]).astype(int)
        inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
        x, y = x.clip(0, size - 1), y.clip(0, size - 1)
        seen = inside & (owner_there[y, x] == owner)
        assert seen.mean() > 0.8
        wrong = np.abs(there[y, x].astype(float) - here).max(axis=2)[seen]
        assert np.median(wrong) < 6  # of 255: half a pixel of the waves of the ground
        assert (wrong > 40).mean() < 0.08  # edges of shapes and of their textures
        if camera == "still":
            assert not flow[owner == 0].any()
        still = np.abs(there.astype(float) - here).max(axis=2)[seen & (owner > 0)]
        assert np.mean(wrong[owner[seen] > 0]) < 0.5 * np.mean(still)


def test_without_occlusion_nothing_is_hidden_and_with_it_what_is_hidden_is_not_detected() -> None:
    apart = list(clips(clips=10, occlusion=0.0, size=16).candidates())
    assert len(apart) == 10 * 8 * 3
    assert {c.facts["occlusion"] for c in apart} == {0.0}
    met = list(clips(clips=20, occlusion=1.0, objects=2, frames=12, size=16).candidates())
    nearest = [c for c in met if c.facts["identity"].endswith("/0")]
    assert len(nearest) == 20 * 12
    assert {c.facts["occlusion"] for c in nearest} == {0.0}
    farther = np.array([c.facts["occlusion"] for c in met if c.facts["identity"].endswith("/1")])
    assert 0.3 < farther.max() <= 0.8
    assert len(farther) < 20 * 12


def test_shapes_that_are_alike_have_one_look() -> None:
    def looks(alike: float) -> list[int]:
        found = [clips(clips=8, alike=alike).scene(i).things for i in range(8)]
        return [len({(thing.shape, thing.texture) for thing in things}) for things in found]

    assert looks(1.0) == [1] * 8
    assert sum(looks(0.0)) > 16
    things = clips(clips=8, alike=1.0).scene(0).things
    assert len({thing.colour for thing in things}) == 3


def test_crops_reach_a_miner_that_finds_who_is_who(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"clips": 12, "frames": 4, "size": 16, "occlusion": 1.0}
    Path("params.yaml").write_text(json.dumps({"source": {"name": "clips", "options": options}, "shard": {}}))
    scan()
    ingest([])
    shard([])
    manifest, facts = read_manifest(), read_facts(INGEST)
    split_of: dict[str, set[str]] = {}
    for group, split in zip(manifest["group"].to_pylist(), manifest["split"].to_pylist(), strict=True):
        split_of.setdefault(group, set()).add(split)
    assert len(split_of) == 12
    assert all(len(splits) == 1 for splits in split_of.values())
    identity = facts.columns["identity"].tolist()
    names = sorted(set(identity))
    features = np.eye(len(names), dtype=np.float32)[[names.index(one) for one in identity]]
    _, images = manifest_facts(facts.keys)
    pairs = FrameMatching(MatchingParams(threshold=0.9), 0, images).mine(features, None, tmp_path).pairs
    assert pairs is not None
    assert len(pairs.rows) > 80
    frame, thing = facts.columns["frame"], np.array(identity)
    assert (thing[pairs.rows[:, 0]] == thing[pairs.rows[:, 1]]).all()
    assert (frame[pairs.rows[:, 1]] - frame[pairs.rows[:, 0]] == 1).mean() > 0.95  # more, where one is hidden
    mask = decode_side("mask", Sides().read(str(facts.keys[0]), "mask"), "x")
    assert 1 in mask


def test_whole_frames_have_boxes_masks_and_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"clips": 5, "frames": 5, "size": 32, "sample": "frames", "given": ["flow"], "camera": "shake"}
    Path("params.yaml").write_text(json.dumps({"source": {"name": "clips", "options": options}, "shard": {}}))
    scan()
    ingest([])
    shard([])
    facts, sides = read_facts(INGEST), Sides()
    assert [fact.name for fact in facts.declared if fact.use == "given"] == ["flow"]
    for key, frame in zip(facts.keys.tolist(), facts.columns["frame"].tolist(), strict=True):
        assert sides.has(key, "flow") == (frame < 4)
        assert len(decode_side("boxes", sides.read(key, "boxes"), key)) == 3
    first = next(iter(clips(**options).candidates()))
    assert decode(first.reference, "x", 3).shape == (32, 32, 3)  # type: ignore[arg-type]
    assert first.facts["flow"].shape == (32, 32, 2)
    assert set(np.unique(first.facts["mask"])) == {0, 1, 2, 3}
