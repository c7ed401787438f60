"""Local features for probes: the same bits from the cache and without it, and places matched after known changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.config.shared_sections import CacheParams
from stages.probe.images import local_features
from stages.probe.images.image_data import ImageData
from stages.probe.probes.dense.correspondence import Correspondence, changed_pixels, right_places
from tests.stages.probe.images.test_on_images import EMBEDDINGS, RUN, images, write_run

__all__ = ["images"]  # the fixture
NO_CACHE = CacheParams(max_bytes=0)


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Reading the code of all these modules takes a second a test; the list stands in for their fingerprint."""
    named: list[str] = []

    def keyed(inputs, code):
        named[:] = code
        return inputs | {"code": list(code)}

    monkeypatch.setattr(local_features, "keyed_by_code", keyed)
    return named


@pytest.mark.parametrize("architecture", ["resnet_tiny", "vit_mini", "patch_dictionary"])
def test_cached_or_not_alone_or_together_the_bits_are_the_same(images, architecture):
    write_run(architecture, {"resnet_tiny": 64, "vit_mini": 96, "patch_dictionary": 1024}[architecture])
    keys = np.concatenate([images.part(split).keys for split in ("train", "test")])
    shuffled = keys[np.random.default_rng(0).permutation(len(keys))]
    first = ImageData(EMBEDDINGS, RUN).local.maps(keys)
    entries = sorted(Path(".reprise/local").glob("*/*.npy"))
    assert entries
    assert torch.equal(ImageData(EMBEDDINGS, RUN).local.maps(keys), first)  # read
    on_the_way = ImageData(EMBEDDINGS, RUN, cache=NO_CACHE).local
    place = {key: i for i, key in enumerate(keys)}
    assert torch.equal(on_the_way.maps(shuffled), first[[place[key] for key in shuffled]])
    assert torch.equal(on_the_way.maps(keys[3:4]), first[3:4])
    assert sorted(Path(".reprise/local").glob("*/*.npy")) == entries


def test_they_are_those_of_the_network_on_these_pixels(images):
    keys, network = images.part("test").keys[:5], images.network().eval()
    with torch.no_grad():
        expected = network.forward_features(images.pixels(keys))
    torch.testing.assert_close(images.local.maps(keys), expected)
    torch.testing.assert_close(images.local.tokens(keys), expected.flatten(2).transpose(1, 2))
    assert images.local.places.rows == 2


def test_other_weights_are_another_entry(images, code):
    keys = images.part("test").keys[:1]
    before = images.local.maps(keys)
    torch.manual_seed(1)
    write_run("resnet_tiny", 64)  # seeds itself with 0: the same weights
    assert torch.equal(ImageData(EMBEDDINGS, RUN).local.maps(keys), before)
    assert len(list(Path(".reprise/local").iterdir())) == 2  # one entry, and the lock
    write_run("vit_mini", 96)
    ImageData(EMBEDDINGS, RUN).local.maps(keys)
    assert len(list(Path(".reprise/local").iterdir())) == 3
    assert {"stages.probe.images.local_features", "reprise.networks.backbones.vit_mini"} < set(code)


@pytest.mark.parametrize("change", ["flip", "turn", "shift"])
def test_pixels_move_as_the_places_do(change):
    """Each place of an image is one pixel with its own value."""
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    moved = changed_pixels(x, change, 1).flatten()
    for place, goes in enumerate(right_places(4, 1.0)[change].tolist()):
        assert goes == -1 or moved[goes] == x.flatten()[place]
    assert (right_places(4, 1.0)[change] == -1).sum() == (4 if change == "shift" else 0)
    assert "shift" not in right_places(4, 2.5)


class Scripted:
    """Stands in for ImageData: local features that are computed from the pixels by a function."""

    def __init__(self, images: ImageData, features) -> None:
        self._images, self._features = images, features
        self.test, self.confidence, self.test_note = images.test, images.confidence, images.test_note
        self.places = images.local.places

    def changed(self, keys, change):
        x = torch.rand((len(keys), 3, 8, 8), generator=torch.Generator().manual_seed(0))
        yield self._features(x), self._features(change(x))


def run(images: ImageData, features, monkeypatch: pytest.MonkeyPatch):
    scripted = Scripted(images, features)
    monkeypatch.setattr(images, "local", scripted, raising=False)
    return Correspondence(Correspondence.Params(images=40)).run(images)


def test_what_follows_the_picture_is_found_and_what_follows_the_place_is_not(images, monkeypatch):
    pooled = run(images, lambda x: torch.nn.functional.avg_pool2d(x, 4), monkeypatch).metrics
    assert {name: pooled[name].value for name in ("flip", "turn", "shift")} == {"flip": 1, "turn": 1, "shift": 1}
    assert pooled["turn_distance"].value == 0
    assert pooled["chance"].value == 0.25
    where = torch.eye(4).reshape(1, 4, 2, 2)
    by_place = run(images, lambda x: where.expand(len(x), -1, -1, -1), monkeypatch).metrics
    assert [by_place[name].value for name in ("flip", "turn", "shift")] == [0, 0, 0]
    assert by_place["shift_distance"].value == 4  # pixels: one place
    alike = run(images, lambda x: torch.ones(len(x), 3, 2, 2), monkeypatch)
    assert set(alike.metrics) == {"chance"}
    assert alike.protocol["flip: places scored"] == "0 of 40 images"


def test_the_probe_runs_on_a_backbone_and_repeats(images):
    first, again = (Correspondence(Correspondence.Params(images=20)).run(ImageData(EMBEDDINGS, RUN)) for _ in "ab")
    assert first == again
    assert first.metrics["flip"].low <= first.metrics["flip"].value <= first.metrics["flip"].high
    assert first.protocol["places"] == "2 x 2, 4 pixels apart, 64 numbers each"
    assert first.protocol["output of the backbone"] == "the mean of its places"
