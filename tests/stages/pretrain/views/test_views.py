"""Batched views against Pillow, colorsys and albumentations."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from reprise.media.image.transform import resize_to_square
from stages.pretrain.changes import blur, colour
from stages.pretrain.changes.crop import draw_boxes
from stages.pretrain.views import batched
from tests.reprise.media.test_transform import PICTURES, triangle
from tests.stages.pretrain.conftest import PLAIN, batched_view, per_image_views

RATIO = (3 / 4, 4 / 3)
FULL = replace(PLAIN, flip=True, jitter=0.5, grey=0.2, blur=0.5, solarize=0.2)


@pytest.fixture
def photos() -> np.ndarray:
    """(64, 32, 32, 3) smooth coloured noise: neither flat nor pixel noise, as photographs are."""
    coarse = np.random.default_rng(0).integers(0, 256, (64, 6, 6, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((32, 32), Image.Resampling.BICUBIC)) for c in coarse])


@pytest.mark.parametrize("box", [(0, 0, 32, 32), (3, 5, 20, 17), (10, 2, 7, 9), (31, 31, 1, 1)])
def test_crops_resize_as_pillow_does(photos, box):
    top, left, height, width = box
    x = torch.from_numpy(photos[:4]).float()
    got = batched.resized_crops(x, torch.tensor([box] * 4).float(), 16).permute(0, 2, 3, 1).numpy()
    for image, ours in zip(photos, got, strict=False):
        cut = Image.fromarray(image[top : top + height, left : left + width])
        theirs = np.asarray(cut.resize((16, 16), Image.Resampling.BILINEAR), dtype=float)
        assert np.abs(ours - theirs).max() <= 1.01  # Pillow rounds to whole numbers after each of its two passes


def test_drawn_crops_have_the_stated_distribution():
    boxes = draw_boxes(20_000, 32, 32, (0.2, 1.0), RATIO, torch.Generator().manual_seed(0))
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 32).all()
    assert (left + width <= 32).all()
    area, ratio = height * width / 32**2, width / height
    assert 0.17 <= area.min() < 0.21
    assert RATIO[0] - 0.1 <= ratio.min()
    assert ratio.max() <= RATIO[1] + 0.1
    assert abs(float(torch.log(ratio).mean())) < 0.01
    # large areas are refused more often (they do not fit at every aspect), as in torchvision: measured 0.55 there
    assert 0.53 < float(area.mean()) < 0.61


def test_hue_turns_as_colorsys_does():
    pixels = torch.rand(50, 3, 1, 1)
    turns = torch.empty(50, 1, 1, 1).uniform_(-0.5, 0.5)
    got = colour.turned_hue(pixels.clone(), turns)[:, :, 0, 0]
    for pixel, turn, ours in zip(pixels[:, :, 0, 0].tolist(), turns.flatten().tolist(), got.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        assert ours == pytest.approx(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value), abs=1e-5)
    grey = torch.full((1, 3, 1, 1), 0.4)
    assert torch.allclose(colour.turned_hue(grey, torch.tensor(0.3).view(1, 1, 1, 1)), grey)


def test_blur_is_a_gaussian(photos):
    x = torch.from_numpy(photos[:8]).permute(0, 3, 1, 2).float() / 255
    ours = blur.blurred(x, torch.full((8,), 0.8), 7).permute(0, 2, 3, 1).numpy()
    import cv2

    for image, got in zip(photos, ours, strict=False):
        want = cv2.GaussianBlur(image.astype(np.float32) / 255, (7, 7), 0.8, borderType=cv2.BORDER_REFLECT_101)
        assert np.abs(got - want).max() < 1e-4


def test_off_means_the_image_itself():
    image = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8)
    settings = replace(PLAIN, crop_scale_min=1.0)
    boxes = torch.tensor([[0, 0, 16, 16]] * 5).float()
    same = batched.resized_crops(image.float() / 255, boxes, 16)
    torch.testing.assert_close(same, image.permute(0, 3, 1, 2).float() / 255, atol=1e-6, rtol=0)
    view = batched_view(image, settings, torch.Generator().manual_seed(0))
    assert view.shape == (5, 3, 16, 16)


def test_a_view_is_a_function_of_its_generator_and_differs_by_image(photos):
    images = torch.from_numpy(np.repeat(photos[:1], 8, axis=0))
    first, again, other = (batched_view(images, FULL, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({v.numpy().tobytes() for v in first}) == 8  # every image has parameters of its own


def test_shares_of_grey_flip_and_solarize(photos):
    images = torch.from_numpy(np.repeat(photos[:1], 4000, axis=0))
    grey = batched_view(images, replace(PLAIN, grey=0.2), torch.Generator().manual_seed(0))
    share = float((grey.amax(1) - grey.amin(1)).flatten(1).amax(1).lt(1e-6).float().mean())
    assert abs(share - 0.2) < 4 * np.sqrt(0.16 / 4000)
    ramp = torch.from_numpy(np.tile(np.arange(0, 128, 8, dtype=np.uint8)[None, None, :, None], (4000, 16, 1, 3)))
    flipped = batched_view(ramp, replace(PLAIN, flip=True, crop_scale_min=1.0), torch.Generator().manual_seed(0))
    share = float((flipped[:, 0, 8, 0] > flipped[:, 0, 8, -1]).float().mean())
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 4000)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(("side", "size"), [(64, 12), (160, 32), (150, 64), (48, 33), (10, 24)])
def test_both_paths_and_evaluation_scale_alike(picture, side, size):
    """The whole image by both paths, as embedding sees it, and by the naive restatement; mostly shrunk."""
    pixels = PICTURES[picture](side, side)
    settings = replace(PLAIN, size=size, crop_scale_min=1.0)  # no other aspect fits, so the crop is the whole image
    batch = batched_view(torch.from_numpy(pixels[None]), settings, torch.Generator().manual_seed(0))
    single = per_image_views(lambda i: pixels, settings, threads=1)([0], 0)
    want = triangle(pixels, size, size)
    for view in (batch, single):
        assert np.abs(view[0].permute(1, 2, 0).numpy() * 255 - want).max() <= 1.001
    assert np.abs(resize_to_square(pixels, size) - want).max() <= 1.001


@pytest.mark.parametrize(("side", "size"), [(32, 12), (160, 32), (160, 96)])
def test_edges_are_as_strong_on_both_paths_where_crops_shrink(side, size):
    """The area filter of earlier versions left edges 4 to 18 % stronger on one path than on the other."""
    coarse = np.random.default_rng(1).integers(0, 256, (24, 3 * side // 8, 3 * side // 8, 3), dtype=np.uint8)
    images = np.stack([np.asarray(Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC)) for c in coarse])
    settings = replace(PLAIN, size=size, crop_scale_min=0.9)
    rows = np.tile(np.arange(24), 16)
    rng = torch.Generator().manual_seed(0)
    ours = moment_edges(batched_view(torch.from_numpy(images[rows]), settings, rng))
    theirs = moment_edges(per_image_views(lambda i: images[i], settings, threads=1)(rows, 0, "views"))
    assert float(theirs.mean() / ours.mean()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    "change",
    [{}, {"flip": True}, {"jitter": 0.5}, {"grey": 0.2}, {"blur": 1.0}, {"solarize": 0.3}],
    ids=lambda c: next(iter(c), "crop"),
)
def test_both_paths_sample_the_same_distribution(photos, change):
    """Means over many views of per-view moments agree within four standard errors (and half a grey level)."""
    settings = replace(PLAIN, **change)
    rows = np.tile(np.arange(64), 16)
    ours = batched_view(torch.from_numpy(photos[rows]), settings, torch.Generator().manual_seed(0))
    theirs = per_image_views(lambda i: photos[i], settings, threads=1)(rows, 0, "views")
    for statistic in (moment_mean, moment_std, moment_chroma, moment_edges):
        a, b = statistic(ours), statistic(theirs)
        error = float(a.var() / len(a) + b.var() / len(b)) ** 0.5
        assert abs(float(a.mean() - b.mean())) < 4 * error + 0.5 / 255, statistic.__name__


def moment_mean(x: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=(1, 2, 3))


def moment_std(x: torch.Tensor) -> torch.Tensor:
    return x.std(dim=(1, 2, 3))


def moment_chroma(x: torch.Tensor) -> torch.Tensor:
    return (x.amax(1) - x.amin(1)).mean(dim=(1, 2))


def moment_edges(x: torch.Tensor) -> torch.Tensor:
    return x.diff(dim=3).abs().mean(dim=(1, 2, 3))


def test_per_image_views_do_not_depend_on_threads_and_take_any_size():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (int(h), int(w), 3), dtype=np.uint8) for h, w in rng.integers(9, 60, (40, 2))]
    one, three = (per_image_views(lambda i: images[i], FULL, threads=t)(range(40), 7, 3) for t in (1, 3))
    assert one.shape == (40, 3, 16, 16)
    assert torch.equal(one, three)
    assert not torch.equal(one, per_image_views(lambda i: images[i], FULL, threads=1)(range(40), 7, 4))


def test_grey_images_have_one_channel_in_both_paths():
    images = np.random.default_rng(0).integers(0, 256, (20, 20, 20, 1), dtype=np.uint8)
    settings = replace(FULL, channels=1, mean=(0.5,), std=(0.2,))
    assert batched_view(torch.from_numpy(images), settings, torch.Generator().manual_seed(0)).shape == (
        20,
        1,
        16,
        16,
    )
    assert per_image_views(lambda i: images[i], settings, threads=2)(range(20), 0).shape == (20, 1, 16, 16)
