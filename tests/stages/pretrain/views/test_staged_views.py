"""Views of images of different sizes, as a GPU makes them, on the CPU: against the path of albumentations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from reprise.media.image.transform import resize
from reprise.runtime.device import Compute
from reprise.runtime.seeds import torch_rng
from stages.pretrain.epochs import PretrainingEpochs
from stages.pretrain.views.batched import resized_crops
from stages.pretrain.views.draws import draw_view, frame_of
from stages.pretrain.views.staged import AHEAD, StagedViews
from tests.stages.pretrain.conftest import PLAIN

CPU = Compute("cpu", "fp32", 3)
SEED = 4
SHORT = replace(PLAIN, size=72, crop_scale_min=0.08, flip=True)
CROPS = SHORT.settings
ALL = replace(SHORT, jitter=1.0, grey=0.2, blur=0.5, solarize=0.3).settings


class Photos:
    """30 smooth photographs of different sizes; counts how often each is read."""

    channels = 3

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.sizes = rng.integers(60, 190, (30, 2))
        coarse = rng.integers(0, 256, (30, 5, 7, 3), dtype=np.uint8)
        pairs = zip(coarse, self.sizes, strict=True)
        self.pixels = [np.asarray(Image.fromarray(c).resize((int(w), int(h)), 3)) for c, (h, w) in pairs]
        self.read: list[int] = []

    def image(self, i: int) -> np.ndarray:
        self.read.append(i)
        return self.pixels[i]


@pytest.fixture
def photos() -> Photos:
    return Photos()


def test_crops_have_the_pixels_of_the_path_of_single_images(photos):
    rows = np.array([7, 3, 3, 29, 0, 11, 18, 5, 21, 26])
    views = StagedViews(photos, [CROPS, CROPS], SEED, CPU)(rows, 2, 1).pixels
    tall, wide = torch.from_numpy(photos.sizes[rows]).float().T
    for v, view in enumerate(views):
        draws = draw_view(frame_of(len(rows), tall, wide), CROPS, torch_rng(SEED, "views", 2, 1, v))
        for place, row in enumerate(rows):
            top, left, height, width = draws.boxes[place].int().tolist()
            assert top + height <= tall[place]
            assert left + width <= wide[place]
            cut = np.ascontiguousarray(photos.pixels[row][top : top + height, left : left + width])
            want = resize(cut, 72, 72)  # as AntialiasedCrop does
            want = want[:, ::-1] if draws.changes[0]["applied"][place] else want
            found = view[place].permute(1, 2, 0).numpy() * 255
            assert np.abs(found - want).max() < 1.6  # that path rounds twice, this one has half precision
            assert np.abs(found - want).mean() < 0.5


def test_an_image_has_the_same_views_beside_larger_ones(photos):
    rows = np.arange(10)
    view = StagedViews(photos, [ALL], SEED, CPU)(rows, 0, 0).pixels[0]
    tall, wide = torch.from_numpy(photos.sizes[rows]).float().T
    whole = draw_view(frame_of(10, tall, wide), ALL, torch_rng(SEED, "views", 0, 0, 0))
    mirrored, *others = [drawn["applied"] for drawn in whole.changes]
    for place in np.flatnonzero(~torch.stack(others).any(0).numpy()):
        alone = torch.from_numpy(photos.pixels[place])[None].float() / 255
        flips = mirrored[place : place + 1]
        want = resized_crops(alone, whole.boxes[place : place + 1], 72, flips)[0]
        torch.testing.assert_close(view[place], want, atol=1.6 / 255, rtol=0)


def test_each_image_is_read_once_for_all_views_and_ahead_of_its_batch(photos):
    order = [np.arange(i, i + 5) for i in range(0, 30, 5)]
    staged, afresh = StagedViews(photos, [ALL, ALL], SEED, CPU), []
    found = []
    for number, rows in enumerate(order):
        found.append(staged(rows, 0, number).pixels)
        staged.expect(order[number + 1 :])
        assert len(staged.coming) == min(AHEAD, len(order) - number - 1)
    assert sorted(photos.read) == list(range(30))
    for number in (3, 5):  # as after an interruption: nothing was read ahead
        afresh = StagedViews(photos, [ALL, ALL], SEED, CPU)(order[number], 0, number).pixels
        assert all(torch.equal(a, b) for a, b in zip(afresh, found[number], strict=True))


def test_epochs_read_ahead_into_the_next_one_and_not_beyond_the_last(photos):
    staged = StagedViews(photos, [CROPS, CROPS], SEED, CPU)
    nothing = np.full(30, -1)
    epochs = PretrainingEpochs(2, 10, "random", np.arange(30), nothing, {}, staged, SEED, torch.device("cpu"))
    waiting = []
    for number in range(2):
        epoch = epochs.epoch(number)
        for k in range(epochs.batches):
            epoch.batch(k)
            waiting.append(len(staged.coming))
    assert waiting == [2, 1, 3, 2, 1, 0]
    assert sorted(photos.read) == sorted([*range(30), *range(30)])


def test_another_batch_than_expected_has_its_own_views(photos):
    staged = StagedViews(photos, [ALL], SEED, CPU)
    staged.expect([np.arange(5), np.arange(5, 10)])
    rows = np.array([20, 4])
    afresh = StagedViews(photos, [ALL], SEED, CPU)
    assert torch.equal(staged(rows, 0, 0).pixels[0], afresh(rows, 0, 0).pixels[0])
    staged.expect([np.arange(5), np.arange(5, 10)])
    staged.expect([np.arange(5), np.arange(9, 12)])
    assert [batch.rows[0] for batch in staged.coming] == [0, 9]


def test_an_image_that_cannot_be_read_stops_the_training(photos):
    def broken(i: int) -> np.ndarray:
        raise OSError(f"image {i} is broken")

    photos.image = broken
    staged = StagedViews(photos, [ALL], SEED, CPU)
    staged.expect([np.arange(5)])
    with pytest.raises(OSError, match="is broken"):
        staged(np.arange(5), 0, 0)
