"""Batched and per-image views draw from the same distributions, parameter by parameter.

Every parameter is read off the views themselves, made of pictures on which it can be told from all others; so both
paths are measured with one yardstick, and against the distribution that the settings state.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import albumentations as A
import numpy as np
import pytest
import torch
from scipy import stats

from reprise.training.change import Frame
from reprise.training.views import build_change
from stages.pretrain.changes import colour
from stages.pretrain.changes.blur import SIGMA
from stages.pretrain.views.per_image import build_transform
from stages.pretrain.views.settings import by_view, needed_side
from tests.stages.pretrain.conftest import PLAIN, Short, batched_view, per_image_views

N = 1500
FARTHEST = 2.23 * np.sqrt(2 / N)  # two samples of N lie farther apart (Kolmogorov-Smirnov) once in 10,000 times
SIDE, STRENGTH = 16, 0.25
RATIO = (3 / 4, 4 / 3)
WHOLE = replace(PLAIN, size=SIDE, crop_scale_min=1.0)
COLOUR = (150, 110, 70)


def test_the_smallest_crop_of_the_needed_side_has_the_pixels_of_its_view():
    plan = [replace(PLAIN, size=224, crop_scale_min=0.25), replace(PLAIN, size=96, crop_scale_min=0.01)]
    assert needed_side([s.settings for s in plan[:1]]) == 448
    assert needed_side([s.settings for s in plan]) == 960
    assert needed_side([replace(PLAIN, size=224, crop_scale_min=0.08).settings]) == 792


def batched_path(picture: np.ndarray, settings: Short) -> np.ndarray:
    images = torch.from_numpy(np.repeat(picture[None], N, axis=0))
    return batched_view(images, settings, torch.Generator().manual_seed(0)).permute(0, 2, 3, 1).numpy()


def per_image_path(picture: np.ndarray, settings: Short) -> np.ndarray:
    return per_image_views(lambda i: picture, settings, threads=1)(range(N), 0, "views").permute(0, 2, 3, 1).numpy()


PATHS = {"batched": batched_path, "per image": per_image_path}


def views_of(picture: np.ndarray, **change: object) -> dict[str, np.ndarray]:
    """(N, S, S, 3) views of one picture by either path, on the scale 0..1."""
    settings = replace(WHOLE, size=picture.shape[0], **change)
    return {name: path(picture, settings) for name, path in PATHS.items()}


def same(found: dict[str, np.ndarray], stated: object = None) -> None:
    """The two samples agree with each other, and each with the stated distribution."""
    ours, theirs = found.values()
    assert stats.ks_2samp(ours, theirs).statistic < FARTHEST
    for sample in found.values() if stated else ():
        assert stats.kstest(sample, stated).statistic < FARTHEST


def same_share(found: dict[str, np.ndarray], share: float) -> None:
    for name, chosen in found.items():
        assert abs(chosen.mean() - share) < 4 * np.sqrt(share * (1 - share) / N), name


def uniform(low: float, high: float) -> object:
    return stats.uniform(low, high - low).cdf


# ------------------------------------------------------------------------------------------------- geometry
@pytest.fixture(scope="module")
def crops() -> dict[str, np.ndarray]:
    """(N, 4) left, top, width, height in pixels by either path: red rises to the right, green downwards."""
    rising = np.arange(64, dtype=np.uint8) * 4
    picture = np.stack([*np.meshgrid(rising, rising), np.zeros((64, 64))], axis=-1).astype(np.uint8)
    found = {}
    for name, path in PATHS.items():
        views = path(picture, replace(WHOLE, crop_scale_min=0.2)) * 255 / 4 + 0.5  # positions in the picture
        sides = [(v[:, 12] - v[:, 3]) * SIDE / 9 for v in (views[:, 8, :, 0], views[:, :, 8, 1])]
        starts = [
            v[:, 8] - 8.5 * side / SIDE for v, side in zip((views[:, 8, :, 0], views[:, :, 8, 1]), sides, strict=True)
        ]
        found[name] = np.stack([*starts, *sides], axis=1)
    return found


def test_crops_have_the_same_areas_and_aspects(crops):
    same({name: found[:, 2] * found[:, 3] / 64**2 for name, found in crops.items()})
    same({name: np.log(found[:, 2] / found[:, 3]) for name, found in crops.items()})
    for found in crops.values():
        area, aspect = found[:, 2] * found[:, 3] / 64**2, found[:, 2] / found[:, 3]
        assert 0.18 < area.min() < 0.22
        assert 0.95 < area.max() < 1.02
        assert 0.9 * RATIO[0] < aspect.min() < 1.1 * RATIO[0]
        assert 0.9 * RATIO[1] < aspect.max() < 1.1 * RATIO[1]


def test_crops_lie_everywhere_alike(crops):
    for axis in (0, 1):
        roomy = {name: found[found[:, 2 + axis] < 48] for name, found in crops.items()}  # pixels to choose from
        places = {name: np.clip(found[:, axis] / (64 - found[:, 2 + axis]), 0, 1) for name, found in roomy.items()}
        same(places, uniform(0, 1))


def test_half_of_the_views_are_mirrored():
    picture = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    picture[:, :4] = 200
    same_share({name: v[:, 8, 0, 0] < 0.1 for name, v in views_of(picture, flip=True).items()}, 0.5)


# --------------------------------------------------------------------------------------------------- colour
def test_brightness_changes_alike():
    """A grey picture without edges shows brightness alone."""
    picture = np.full((SIDE, SIDE, 3), 100, dtype=np.uint8)
    factors = {name: v[:, 0, 0, 0] * 255 / 100 for name, v in views_of(picture, jitter=1.0).items()}
    same(factors)
    applied = {name: f[np.abs(f - 1) > 0.004] for name, f in factors.items()}
    for found in applied.values():
        assert abs(len(found) / N - colour.PROBABILITY) < 0.05
    same(applied, uniform(0.2, 1.8))


def measured(**change: object) -> dict[str, np.ndarray]:
    """(n, 4) brightness times contrast, contrast, saturation, turn of the hue of the views that were jittered.

    Two grey stripes and a coloured one. Their distance grows by brightness and contrast, the spread of the colour's
    channels by brightness, contrast and saturation, and nothing but the hue turns the hue, in whatever order.
    """
    picture = np.empty((SIDE, SIDE, 3), dtype=np.uint8)
    picture[:5], picture[5:10], picture[10:] = 70, 150, COLOUR
    found = {}
    for name, views in views_of(picture, **change).items():
        views = views * 255
        both = (views[:, 7, 0] - views[:, 2, 0]).mean(axis=1) / 80
        spread = np.ptp(views[:, 13, 0], axis=1) / np.ptp(COLOUR)
        turn = np.array([hue(pixel) - hue(np.array(COLOUR, dtype=float)) for pixel in views[:, 13, 0]])
        figures = np.stack([both, spread / both, (turn + 0.5) % 1 - 0.5], axis=1)
        found[name] = figures[np.abs(views[:, 13, 0] - COLOUR).max(axis=1) > 0.6]
    return found


@pytest.fixture(scope="module")
def jittered() -> dict[str, np.ndarray]:
    """The views of one strength for all changes."""
    return measured(jitter=STRENGTH)


def hue(pixel: np.ndarray) -> float:
    """In turns, of (3,) red, green, blue."""
    first = int(pixel.argmax())
    return (2 * first + (pixel[first - 2] - pixel[first - 1]) / np.ptp(pixel)) / 6


def test_contrast_changes_alike(jittered):
    """Its factor times that of brightness, which is known: two independent uniform ones."""
    low, high = 1 - 0.8 * STRENGTH, 1 + 0.8 * STRENGTH
    product = np.random.default_rng(0).uniform(low, high, (200_000, 2)).prod(axis=1)
    same({name: found[:, 0] for name, found in jittered.items()}, lambda x: np.searchsorted(np.sort(product), x) / 2e5)


def test_saturation_and_hue_change_alike(jittered):
    assert all(abs(len(found) / N - colour.PROBABILITY) < 0.05 for found in jittered.values())
    same({name: f[:, 1] for name, f in jittered.items()}, uniform(1 - 0.8 * STRENGTH, 1 + 0.8 * STRENGTH))
    same({name: f[:, 2] for name, f in jittered.items()}, uniform(-0.2 * STRENGTH, 0.2 * STRENGTH))


def test_saturation_and_hue_have_limits_of_their_own():
    """As in BYOL: brightness and contrast keep theirs."""
    found = measured(jitter=STRENGTH, saturation=0.1, hue=0.15)
    same({name: f[:, 1] for name, f in found.items()}, uniform(0.9, 1.1))
    same({name: f[:, 2] for name, f in found.items()}, uniform(-0.15, 0.15))
    for name, both in {name: f[:, 0] for name, f in found.items()}.items():
        assert both.min() < 0.75, name  # 0.64 at least: brightness and contrast still change by a fifth each
        assert both.max() > 1.3, name


def test_crops_have_the_aspect_that_is_asked_for():
    """Squares of a quarter of the area (EMP-SSL), by both paths: a ramp tells the width, its transpose the height."""
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))
    settings = replace(WHOLE, crop_scale_min=0.25, crop_scale_max=0.25, crop_aspect=1.0)
    for path in PATHS.values():
        for picture in (ramp, ramp.transpose(1, 0, 2)):
            views = path(np.ascontiguousarray(picture), settings)[..., 0] * 255 / 4
            side = np.ptp(views.reshape(N, -1), axis=1) * SIDE / (SIDE - 1)
            assert np.abs(side - 32).max() < 1.5


def test_each_view_has_its_own_blur_and_solarizing():
    """Lists count by view, and their last entry holds for all further ones; a number holds for all."""
    settings = replace(WHOLE, blur=(1.0, 0.1, 0.5), solarize=(0.0, 0.2))
    plan = by_view([settings.settings] * 5)
    chances = [tuple(change.params.probability for change in s.after_cut) for s in plan]
    assert chances == [(1.0, 0.0), (0.1, 0.2), (0.5, 0.2), (0.5, 0.2), (0.5, 0.2)]
    alike = replace(settings, blur=0.3, solarize=0.2).settings
    assert by_view([alike] * 2) == [alike] * 2
    picture = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    picture[:, SIDE // 2] = 255
    for number, (blur, solarize) in enumerate([(1.0, 0.0), (0.1, 0.2)]):
        for name, path in PATHS.items():
            own = replace(settings, blur=(1.0, 0.1)[number], solarize=(0.0, 0.2)[number])
            views = path(picture, own)
            line = views[:, 8, SIDE // 2, 0] * 255
            blurred = (line > 1) & (line < 254.5)  # less than half of what sigma = 0.1 leaves is told apart
            inverted = line < 1
            if blur == 1.0:
                assert blurred.mean() > 0.8, name
                assert not inverted.any(), name
            else:
                assert 0.03 < blurred.mean() < 0.12, name
                assert abs(inverted.mean() - solarize) < 0.05, name


def test_every_order_of_the_four_changes_is_as_likely(monkeypatch):
    orders = {"batched": Counter(), "per image": Counter()}
    taken: list[int] = []
    noted = [lambda x, amount, kind=kind: taken.append(kind) or x for kind in range(4)]
    monkeypatch.setattr(colour, "_CHANGES", tuple(noted))
    change = build_change(colour.ColourParams(name="colour", strength=0.5, probability=1.0))
    rng = torch.Generator().manual_seed(0)
    for _ in range(960):
        taken.clear()
        change.apply(torch.zeros(1, 3, 1, 1), change.prepared(change.draw(Frame(1, 1, 1, 1, 3), rng)))
        orders["batched"][tuple(taken)] += 1
    jitter = next(
        t for t in build_transform(replace(WHOLE, jitter=0.5).settings).transforms if isinstance(t, A.ColorJitter)
    )
    jitter.set_random_seed(0)
    for _ in range(960):
        orders["per image"][tuple(jitter.get_params()["order"])] += 1
    for counted in orders.values():
        assert len(counted) == 24
        assert stats.chisquare(list(counted.values())).pvalue > 1e-4


def test_grey_weighs_the_channels_alike():
    views = views_of(np.full((SIDE, SIDE, 3), COLOUR, dtype=np.uint8), grey=0.3)
    greys = {name: np.ptp(v[:, 0, 0], axis=1) < 1e-3 for name, v in views.items()}
    same_share(greys, 0.3)
    for name, chosen in greys.items():
        assert np.abs(views[name][chosen][:, 0, 0] * 255 - np.dot(COLOUR, (0.299, 0.587, 0.114))).max() < 1


def test_solarizing_inverts_the_same_values():
    picture = np.repeat(np.arange(256, dtype=np.uint8).reshape(SIDE, SIDE, 1), 3, axis=2)
    inverted = np.where(np.arange(256) >= 128, 255 - np.arange(256), np.arange(256)).reshape(SIDE, SIDE)
    views = {name: v[..., 0] * 255 for name, v in views_of(picture, solarize=0.3).items()}
    chosen = {name: v[:, -1, -1] < 1 for name, v in views.items()}
    same_share(chosen, 0.3)
    for name, v in views.items():
        assert np.abs(v[chosen[name]] - inverted).max() < 0.01


# ----------------------------------------------------------------------------------------------------- blur
def test_blur_is_as_wide():
    """A white line on black: what is left of it in its own column tells sigma."""
    picture = np.zeros((40, 40, 3), dtype=np.uint8)
    picture[:, 20] = 255
    left = {name: v[:, 20, 20, 0].round(2) for name, v in views_of(picture, blur=0.5).items()}
    same(left)
    rng = np.random.default_rng(0)
    kernel = np.exp(-(np.arange(-2, 3) ** 2) / (2 * rng.uniform(*SIGMA, 100_000)[:, None] ** 2))
    stated = np.where(rng.random(100_000) < 0.5, kernel[:, 2] / kernel.sum(axis=1), 1.0).round(2)
    for found in left.values():
        assert stats.ks_2samp(found, stated).statistic < FARTHEST
