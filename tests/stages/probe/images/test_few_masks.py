"""Masks for probes: cut as the images are, brought to places; and objects told from a few of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reprise.config.errors import ShardError
from reprise.networks.local_features import Places
from stages.probe.images.image_data import ImageData
from stages.probe.images.masks import shares_of, squares_of
from stages.probe.probes.dense.few_masks import FewMasks, answers, mean_iou, overlaps, unit
from tests.known_facts import write_known_facts
from tests.stages.probe.images.test_on_images import EMBEDDINGS, RUN, images

__all__ = ["images"]  # the fixture


def test_masks_are_cut_and_scaled_as_their_images():
    wide = np.zeros((4, 8), np.uint8)
    wide[:, 4:] = 7  # the right half
    square = squares_of([wide], 4, {})[0]
    assert square.tolist() == [[0, 0, 7, 7]] * 4
    larger = squares_of([wide], 8, {})[0]
    assert set(larger.ravel().tolist()) == {0, 7}  # numbers of objects are never mixed
    assert (larger[:, 4:] == 7).all()
    squashed = squares_of([wide], 4, {"crop_mode": "squash", "interpolation": "bicubic"})[0]
    assert squashed.tolist() == [[0, 0, 7, 7]] * 4
    assert squares_of([], 4, {}).shape == (0, 4, 4)


def test_a_place_has_the_share_of_its_square():
    mask = np.zeros((1, 8, 8), np.uint8)
    mask[0, :4, :2] = 3
    even = shares_of(mask, Places(5, 2, 2, 4.0, True))
    assert even.tolist() == [[[0.5, 0.0], [0.0, 0.0]]]
    mask[0] = 0
    mask[0, 3, 4] = 1
    patches = shares_of(mask, Places(5, 3, 3, 1.0, False))  # patches of 6 pixels in 8: pixels 2, 3 and 4
    assert np.argwhere(patches[0]).tolist() == [[1, 2]]
    uneven = shares_of(np.ones((1, 10, 10), np.uint8), Places(5, 3, 3, 10 / 3, True))
    assert (uneven == 1).all()


def test_intersection_over_union_is_that_of_sets():
    rng = np.random.default_rng(0)
    found, truth = rng.random((2, 6, 16)) > 0.6
    counts = overlaps(found, truth)
    both = []
    for a, b in ((found, truth), (~found, ~truth)):
        mine, theirs = (set(map(tuple, np.argwhere(x).tolist())) for x in (a, b))
        both.append(len(mine & theirs) / len(mine | theirs))
    assert mean_iou(counts.sum(axis=0)) == pytest.approx(np.mean(both))
    assert mean_iou(overlaps(truth, truth).sum(axis=0)) == 1
    assert mean_iou(np.zeros(4)) == 1


def test_a_place_belongs_to_the_more_similar_mean():
    support = unit(np.array([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0]]))
    shares = np.array([1.0, 0.5, 0.0])
    tokens = unit(np.array([[[3.0, 1.0], [1.0, 3.0]]]))
    assert answers(support, shares, tokens).tolist() == [[True, False]]
    assert (unit(np.zeros((1, 2))) == 0).all()


@pytest.fixture
def masked(images: ImageData) -> ImageData:
    """Digits with random masks beside them."""
    write_known_facts()
    return ImageData(EMBEDDINGS, RUN)


def test_side_facts_are_read_by_key_and_change_the_digest(images, masked):
    keys = masked.part("test").keys[:3]
    masks = masked.masks("ink", keys)
    assert masks.shape == (3, 8, 8)
    assert (masks == np.stack(masked.side("ink", keys))).all()
    assert masked.side("frame", keys)[0].shape == (1, 4)
    with pytest.raises(ShardError, match="no such fact"):
        masked.masks("depth", keys)
    before = masked.digest(False)
    write_known_facts(seed=1)
    assert ImageData(EMBEDDINGS, RUN).digest(False) != before


class Local:
    """Local features that say what the mask says, or nothing."""

    places = Places(2, 4, 4, 2.0, True)

    def __init__(self, data: ImageData, told: bool) -> None:
        self.data, self.told = data, told

    def tokens(self, keys: np.ndarray) -> torch.Tensor:
        shares = shares_of(self.data.masks("ink", keys), self.places).reshape(len(keys), -1)
        values = np.where(shares >= 0.5, 1.0, -1.0) if self.told else np.random.default_rng(0).normal(size=shares.shape)
        return torch.from_numpy(np.stack([values, np.full_like(values, 0.5)], axis=2))


@pytest.mark.parametrize("told", [True, False])
def test_features_that_tell_the_object_find_it_and_noise_does_not(masked, monkeypatch, told):
    monkeypatch.setattr(masked, "local", Local(masked, told), raising=False)
    found = FewMasks(FewMasks.Params(fact="ink", shots=[1, 5], draws=3, images=30)).run(masked)
    again = FewMasks(FewMasks.Params(fact="ink", shots=[1, 5], draws=3, images=30)).run(masked)
    assert found == again
    assert set(found.metrics) == {"iou_all", "iou_1", "iou_5"}
    five = found.metrics["iou_5"]
    assert five.value == 1 if told else five.value < 0.6
    assert five.low <= five.value <= five.high
    assert found.metrics["iou_all"].n == 30


def test_without_masks_it_says_so(images):
    note = FewMasks(FewMasks.Params()).run(images).protocol["note"]
    assert note == "not run: the images have no masks called 'mask'"
