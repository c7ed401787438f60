"""`patterns`: planted responses are found exactly, units' places against a loop, and how the miner is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.artifacts.embeddings import FILE, feature_taps_in, read_embeddings, write_embeddings
from reprise.artifacts.labels.label_sets import read_pseudo_labels
from reprise.artifacts.labels.parts import read_parts
from reprise.artifacts.shards import Shards
from reprise.config.errors import BackboneError, MiningError
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import MineRow
from reprise.networks.backbone import build_backbone
from reprise.networks.local_features import Places, places_of
from reprise.networks.peaks import WithPeaks, peaks
from stages.check.rules.taps import tap_problems
from stages.embed.params import EmbedParams
from stages.mine.label_sets.label_set import mine
from stages.mine.miner import Miner
from stages.mine.miners.patterns import PatternParams, Patterns, fired, located
from tests.workspace import make_shards

OPTIONS = {"clusters": 3, "units": 3, "fires": 1 / 3, "extent": 0.25, "present": 0.6}


def planted(images: int = 90, units: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three kinds of images; units 3k, 3k + 1, 3k + 2 respond in images of kind k at one place, which differs.

    Returns:
        Peaks (n, 3 D), kinds (n,), and the place (n, 2) where the part of each image lies.
    """
    rng = np.random.default_rng(seed)
    kinds = np.arange(images) % 3
    values = rng.uniform(0.0, 0.5, (images, units))
    places = rng.uniform(0.0, 1.0, (images, units, 2))
    at = rng.uniform(0.2, 0.8, (images, 2))
    for image, kind in enumerate(kinds):
        own = slice(3 * kind, 3 * kind + 3)
        values[image, own] = rng.uniform(2.0, 3.0, 3)
        places[image, own] = at[image]
    return np.concatenate([values[:, :, None], places], axis=2).reshape(images, -1).astype(np.float32), kinds, at


def test_planted_patterns_and_boxes_are_found_exactly() -> None:
    features, kinds, at = planted()
    miner = Patterns(PatternParams(**OPTIONS), 0)
    mined = miner.mine(features, None, Path())
    found = miner.figures(features, mined)["units"]
    assert sorted(sorted(units) for units in found) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    for image, kind in enumerate(kinds):
        assert sorted(found[mined.clusters[image]]) == [3 * kind, 3 * kind + 1, 3 * kind + 2]
    assert mined.confidence is not None
    assert (mined.confidence == 1.0).all()
    parts = mined.parts
    assert parts is not None
    own = parts.patterns == mined.clusters[parts.rows]
    assert parts.rows[own].tolist() == list(range(90))
    boxes = np.concatenate([at - 0.125, at + 0.125], axis=1)
    np.testing.assert_allclose(parts.boxes[own], boxes, atol=1e-6)


def test_a_pattern_is_present_as_far_as_its_units_fire_around_one_place() -> None:
    """Three of four units lie together, the fourth is far away; a unit that does not fire does not count."""
    places = np.array([[[0.5, 0.5], [0.6, 0.5], [0.55, 0.4], [0.0, 0.95]]] * 2)
    firing = np.array([[True, True, True, True], [True, False, False, True]])
    presence, boxes = located([np.arange(4), np.empty(0, np.int64)], firing, places, 0.2)
    np.testing.assert_allclose(presence, [[0.75, 0.0], [0.25, 0.0]])
    np.testing.assert_allclose(boxes[0, 0], [0.45, 11 / 30, 0.65, 17 / 30], atol=1e-6)
    np.testing.assert_allclose(boxes[1, 0], [0.4, 0.4, 0.6, 0.6], atol=1e-6)
    corner, clipped = located([np.array([3])], firing, places, 0.2)
    assert corner.tolist() == [[1.0], [1.0]]
    np.testing.assert_allclose(clipped[0, 0], [0.0, 0.85, 0.1, 1.0], atol=1e-6)


def test_each_unit_fires_by_its_own_scale_and_a_dead_one_never() -> None:
    values = np.stack([np.arange(10.0), 1000 * np.arange(10.0), np.full(10, 3.0)], axis=1)
    firing = fired(values, 0.3)
    assert firing[:, 0].tolist() == firing[:, 1].tolist() == [False] * 7 + [True] * 3
    assert not firing[:, 2].any()


def test_images_without_a_pattern_have_no_label_and_nothing_at_all_is_an_error() -> None:
    features, _, _ = planted()
    quiet = features.copy()
    quiet.reshape(90, -1, 3)[:9, :, 0] *= 0.1
    mined = Patterns(PatternParams(**OPTIONS), 0).mine(quiet, None, Path())
    assert (mined.clusters[:9] == -1).all()
    assert (mined.clusters[9:] >= 0).all()
    assert mined.parts is not None
    assert mined.parts.rows.min() == 9
    apart = features.reshape(90, -1, 3).copy()
    apart[:, :, 1:] = np.random.default_rng(1).uniform(0, 1, (90, 12, 2))
    miner = Patterns(PatternParams(**{**OPTIONS, "extent": 1e-6}), 0)
    with pytest.raises(MiningError, match="no image holds a pattern"):
        miner.mine(apart.reshape(90, -1), None, Path())


def test_peaks_against_a_loop() -> None:
    places = torch.randn(3, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    layout = Places(4, 6, 5, 4.0, True)
    found = peaks(places, layout, 24).view(3, 4, 3)
    for image in range(3):
        for unit in range(4):
            best = max((float(places[image, unit, r, c]), r, c) for r in range(6) for c in range(5))
            value, row, column = found[image, unit].tolist()
            assert value == pytest.approx(best[0])
            assert row == pytest.approx((2.0 + 4 * best[1]) / 24)
            assert column == pytest.approx((4.0 + 4 * best[2]) / 24)


def test_embedding_adds_the_tap_and_probes_do_not_see_it(tmp_path: Path) -> None:
    from reprise.networks.assemble import TappedBackbone

    network = TappedBackbone(build_backbone("resnet_tiny", 3, 24, "small", {}), None)
    x = torch.randn(2, 3, 24, 24)
    taps = WithPeaks(network, 3, 24, "data/runs/x/0")(x)
    assert list(taps) == ["backbone", "units"]
    layout = places_of(network.backbone, 3, 24)
    assert layout is not None
    with torch.no_grad():
        torch.testing.assert_close(taps["units"], peaks(network.backbone.forward_features(x), layout, 24))
    values = {name: value.detach().numpy() for name, value in taps.items()}
    write_embeddings(tmp_path / FILE, np.array(["a", "b"]), np.array(["train", "train"]), values)
    assert feature_taps_in(tmp_path / FILE) == ["backbone"]
    assert "units" not in EmbedParams().model_dump()  # it changes no fingerprint where it is not asked for
    blind = TappedBackbone(torch.nn.Flatten(), None)
    with pytest.raises(BackboneError, match="without a map"):
        WithPeaks(blind, 3, 24, "data/runs/x/0")
    with pytest.raises(ValueError, match="whole images"):
        EmbedParams(units=True, bag=4)


def test_the_stage_writes_parts_beside_the_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_shards()
    shards = Shards.open()
    features, _, _ = planted(len(shards.keys))
    out, place = Path("data/mine/parts/0"), Path("data/embed/x/0")
    place.mkdir(parents=True)
    write_embeddings(place / FILE, shards.keys, shards.splits, {"backbone": features[:, :5], "units": features})
    kind = load_class("miners", "patterns", Miner, "")
    mine(MineRow(name="parts", miner="patterns", on="embed/x"), kind, kind.Params(**OPTIONS), 0, out)
    labels, parts = read_pseudo_labels(out / "pseudo_labels.parquet"), read_parts(out / "parts.parquet")
    keys, _, _ = read_embeddings(place / FILE, "units", "train")
    assert set(parts["key"].to_pylist()) <= set(keys.tolist())
    strongest = {(key, c) for key, c in zip(labels["key"].to_pylist(), labels["cluster"].to_pylist(), strict=True)}
    held = set(zip(parts["key"].to_pylist(), parts["pattern"].to_pylist(), strict=True))
    assert {pair for pair in strongest if pair[1] is not None} <= held
    figures = json.loads((out / "quality.json").read_text(encoding="utf-8"))
    assert len(figures["units"]) == 3
    assert figures["patterns_of_an_image"] == pytest.approx(len(parts) / len(labels), abs=1e-6)


@pytest.mark.parametrize(
    ("on", "units", "path"),
    [("embed/x", True, None), ("embed/x", False, "embed.units"), ("features/x", True, "mines[0].on")],
)
def test_check_says_what_the_miner_needs(on: str, units: bool, path: str | None) -> None:
    raw = {"mines": [{"name": "parts", "miner": "patterns", "on": on}], "embed": {"units": units} if units else {}}
    found = [problem.path for problem in tap_problems(raw, {"mines.parts": Patterns})]
    assert found == ([] if path is None else [path])
