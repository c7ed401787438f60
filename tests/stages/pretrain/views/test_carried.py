"""Masks move as their images do, on every path and through every change; a change that does not say so is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reprise.config.errors import TrainingError
from reprise.config.plug_ins.registry import load_class, names
from reprise.media.lookup import IMAGE
from reprise.runtime.device import Compute
from reprise.training.change import Change, ChangeParams, Cut
from reprise.training.views import build_change, typed_change
from stages.pretrain.views.carried import CarriedMasks, carried, nearest_crop, refuse_unmoved
from stages.pretrain.views.make import BatchedViews, SingleViews
from stages.pretrain.views.settings import ViewSettings
from stages.pretrain.views.staged import StagedViews

COUNT, HEIGHT, WIDTH, SIZE = 12, 40, 56, 48
CLASSES: dict[str, type[Change]] = {name: load_class("changes", name, Change, "") for name in names("changes")}
CHANGES = [name for name, change in CLASSES.items() if IMAGE in change.modalities and not issubclass(change, Cut)]
MOVING = {"affine", "flip", "shift", "tps", "random_field"}
CROP = {"name": "crop", "scale_min": 0.5}


def settings_of(*changes: Any, size: int = SIZE) -> ViewSettings:
    return ViewSettings(size, 3, (0.0,) * 3, (1.0,) * 3, tuple(build_change(typed_change(c)) for c in changes))


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    """(12, 40, 56) uint8: a box of its own for each image, another one in its corner."""
    found = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    rng = np.random.default_rng(0)
    for mask in found:
        top, left = rng.integers(2, 14, 2)
        mask[top : top + 20, left : left + 30] = 1
        mask[-8:, -8:] = 2
    return found


class Pictures:
    """Decoded images that are their own masks: white where object 1 is."""

    def __init__(self, masks: np.ndarray) -> None:
        self.images = np.repeat(((masks == 1) * 255).astype(np.uint8)[..., None], 3, axis=3)
        self.sizes, self.channels = np.tile([[HEIGHT, WIDTH]], (len(masks), 1)), 3

    def image(self, i: int) -> np.ndarray:
        return self.images[i]


def agreement(view: Tensor, mask: Tensor) -> float:
    """The share of pixels at which a view is white just where the moved mask has object 1."""
    return float(((view.mean(dim=1) > 0.5) == (mask == 1)).float().mean())


@pytest.mark.parametrize("path", ["batched", "single", "staged"])
def test_a_mask_is_that_of_the_changed_image(masks: np.ndarray, path: str) -> None:
    half = [1.0, 0.5]
    plan = [
        settings_of(CROP, {"name": "flip", "probability": half}, {"name": "tps", "probability": half}),
        settings_of(CROP, {"name": "flip"}, {"name": "shift", "probability": half}, size=24),
        settings_of({"name": "flip", "probability": 0.5}),
    ]
    pictures: Any = Pictures(masks)
    make: Any = {
        "batched": lambda: BatchedViews(pictures.images, plan, 0, "cpu", keep_drawn=True),
        "single": lambda: SingleViews(pictures, plan, 0, 1, keep_drawn=True),
        "staged": lambda: StagedViews(pictures, plan, 0, Compute("cpu", "fp32", 1), keep_drawn=True),
    }[path]()
    rows = np.array([3, 0, 7, 7, 11])
    move = CarriedMasks(("mask",), lambda row, name: masks[row], plan, pictures.sizes)
    made = make(rows, 1, 2)
    moved = move(rows, made.drawn)["mask"]
    for view, mask, settings in zip(made.pixels, moved, plan, strict=True):
        assert mask.shape == (len(rows), settings.size, settings.size)
        assert mask.dtype == torch.uint8
        assert agreement(view, mask) > 0.97
        assert agreement(view, mask.flip(2)) < 0.97
    own = np.array([1, 4])
    for whole, part in zip(moved, move(rows, made.drawn, own)["mask"], strict=True):
        assert torch.equal(whole[own], part)


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_says_what_becomes_of_masks(masks: np.ndarray, name: str) -> None:
    """A change that moves pixels moves the mask alike; under any other one the mask stays as it is."""
    block = {"name": name, "probability": 1.0} | ({"colour": False} if name == "random_field" else {})
    settings = settings_of(CROP, block)
    made = BatchedViews(Pictures(masks).images, [settings], 0, "cpu", keep_drawn=True)(np.arange(COUNT), 0, 0)
    stored = list(masks)
    sizes = np.tile([[HEIGHT, WIDTH]], (COUNT, 1))
    found = carried(stored, sizes, settings, made.drawn[0])
    cut = carried(stored, sizes, settings_of(CROP), made.drawn[0])
    assert set(found.unique().tolist()) <= {0, 1, 2}
    assert torch.equal(found, cut) is (name not in MOVING)
    if name in MOVING:
        assert agreement(made.pixels[0], found) > 0.97 > agreement(made.pixels[0], cut)
    refuse_unmoved(["mask"], [settings], "runs: x")


def test_a_smaller_decoded_image_has_the_same_place_in_its_mask() -> None:
    """Boxes are in pixels of the image that was cut, which may be smaller than the mask."""
    mask = np.arange(64, dtype=np.uint8).reshape(8, 8)
    whole = nearest_crop(mask, np.array([0, 0, 4, 4]), np.array([4, 4]), 8)
    assert whole.tolist() == mask.tolist()
    quarter = nearest_crop(mask, np.array([2, 0, 2, 2]), np.array([4, 4]), 4)
    assert quarter.tolist() == mask[4:, :4].tolist()


def test_a_change_that_says_nothing_is_refused() -> None:
    class Silent(Change):
        def draw(self, frame: Any, rng: Any) -> Any: ...

    plan = [ViewSettings(8, 3, (0.0,) * 3, (1.0,) * 3, (Silent(ChangeParams(name="flip")),))]
    with pytest.raises(TrainingError, match="a change does not say what becomes of masks") as error:
        refuse_unmoved(["mask"], plan, "runs: detcon")
    assert "keeps_places = True" in str(error.value)
