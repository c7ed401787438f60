"""Views of volumes: what each change does, and that views depend on seed, epoch, batch and place alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from reprise.config.errors import TrainingError
from reprise.config.params import ImageParams
from reprise.media.lookup import VOLUME
from reprise.reading.decoded import Decoded
from reprise.runtime.device import Compute
from reprise.training.change import Frame
from reprise.training.views import change_named, changes_named, suggested_changes, typed_views
from stages.pretrain.views.draws import draw_view, whole
from stages.pretrain.views.make import view_maker
from stages.pretrain.views.settings import ViewSettings, needed_side, resolve_views
from stages.pretrain.views.volumes import VolumeViews, cut

SIDE = 8
FRAME = Frame(400, SIDE, SIDE, SIDE, 1, SIDE)
IMAGE = ImageParams(size=SIDE, channels=1)


class Kept:
    """Stands for decoded volumes that are in memory."""

    def __init__(self, volumes: list[np.ndarray]) -> None:
        self.volumes = volumes
        self.sizes = np.array([v.shape[:3] for v in volumes])
        self.images = np.stack(volumes) if len({v.shape for v in volumes}) == 1 else None

    def image(self, i: int) -> np.ndarray:
        return self.volumes[i]


def volumes(*shapes: tuple[int, ...]) -> Kept:
    rng = np.random.default_rng(0)
    return Kept([rng.integers(0, 256, (*shape, 1), dtype=np.uint8) for shape in shapes])


def resolved(views: Any) -> ViewSettings:
    return resolve_views(typed_views(views), Path("none"), IMAGE, (0.5,), (0.25,), VOLUME)


def drawn_and_changed(name: str, x: Tensor, **options: Any) -> tuple[dict[str, Tensor], Tensor]:
    change, rng = change_named(name, **options), torch.Generator().manual_seed(0)
    drawn = change.draw(Frame(len(x), SIDE, SIDE, SIDE, x.shape[1], SIDE), rng)
    return drawn, change.apply(x.clone(), change.prepared(drawn))


def test_boxes_lie_within_the_volume_and_cover_the_share_that_was_asked_for() -> None:
    crop = change_named("volume_crop", scale_min=0.2, scale_max=0.6)
    tall = Frame(400, 16, 20, SIDE, 1, torch.full((400,), 40.0))
    boxes = crop.draw(tall, torch.Generator().manual_seed(0))["boxes"]
    corner, length = boxes[:, :3], boxes[:, 3:]
    sides = torch.tensor([40.0, 16.0, 20.0])
    assert (corner >= 0).all()
    assert (corner + length <= sides).all()
    share = (length / sides).prod(dim=1)
    assert 0.15 < share.min() < 0.25
    assert 0.5 < share.max() < 0.66
    part = length / sides
    assert (part.max(dim=1).values / part.min(dim=1).values).max() < 1.5
    everything = change_named("volume_crop", scale_min=1.0, aspect=1.0).draw(tall, torch.Generator())["boxes"]
    assert torch.equal(everything, whole(tall))


def test_a_box_that_is_the_view_keeps_every_value_and_a_half_is_the_mean_of_eight() -> None:
    rng = np.random.default_rng(1)
    volume = torch.from_numpy(rng.integers(0, 256, (1, 6, 7, 9, 2), dtype=np.uint8))
    kept = cut(volume, torch.tensor([[1.0, 2, 3, 4, 4, 4]]), 4)
    assert torch.allclose(kept, volume[:, 1:5, 2:6, 3:7].movedim(-1, 1) / 255, atol=1e-6)
    flat = cut(torch.full((1, 8, 8, 8, 1), 51, dtype=torch.uint8), torch.tensor([[0.0, 0, 0, 8, 8, 8]]), 4)
    assert torch.allclose(flat, torch.full_like(flat, 0.2))


def test_axes_are_mirrored_one_by_one_and_only_those_that_are_named() -> None:
    x = torch.rand(200, 1, SIDE, SIDE, SIDE)
    drawn, changed = drawn_and_changed("volume_flip", x)
    assert len({tuple(row) for row in drawn["mirrored"].tolist()}) == 8
    for row in range(20):
        axes = [axis + 1 for axis in range(3) if drawn["mirrored"][row, axis]]
        assert torch.equal(changed[row], x[row].flip(axes))
    drawn, _ = drawn_and_changed("volume_flip", x, axes=["height"])
    assert drawn["mirrored"][:, [0, 2]].any().item() is False
    assert 60 < drawn["mirrored"][:, 1].sum() < 140


def test_intensity_restates_its_formula() -> None:
    x = torch.rand(50, 2, SIDE, SIDE, SIDE)
    drawn, changed = drawn_and_changed("volume_intensity", x, probability=1.0)
    for row in range(5):
        mean = x[row].mean()
        value = ((x[row] - mean) * drawn["factor"][row] + mean + drawn["shift"][row]).clamp(0, 1)
        assert torch.allclose(changed[row], value ** drawn["power"][row], atol=1e-6)
    assert 1 / 1.5 <= drawn["power"].min() < 0.8 < 1.3 < drawn["power"].max() <= 1.5


def test_blur_keeps_constants_and_is_a_gaussian_along_each_axis() -> None:
    flat = torch.full((30, 1, SIDE, SIDE, SIDE), 0.3)
    assert torch.allclose(drawn_and_changed("volume_blur", flat, probability=1.0)[1], flat, atol=1e-6)
    point = torch.zeros(1, 1, SIDE, SIDE, SIDE)
    point[0, 0, 4, 4, 4] = 1.0
    drawn, blurred = drawn_and_changed("volume_blur", point, probability=1.0, sigma_min=0.1, sigma_max=0.1)
    across = blurred[0, 0, 4, 4]
    assert torch.allclose(blurred[0, 0, :, 4, 4], across, atol=1e-6)
    sigma = float(drawn["sigma"][0]) * SIDE
    assert across[5] / across[4] == pytest.approx(np.exp(-0.5 / sigma**2), rel=0.02)


def test_noise_has_the_strength_that_was_drawn_and_repeats_beyond_its_tile() -> None:
    grey = torch.full((30, 1, SIDE, SIDE, SIDE), 0.5)
    drawn, noisy = drawn_and_changed("volume_noise", grey, probability=1.0)
    assert (noisy - grey).flatten(1).std(dim=1) == pytest.approx(drawn["strength"], rel=0.15, abs=1e-3)
    change = change_named("volume_noise", probability=1.0)
    drawn = change.draw(Frame(1, 40, 40, 40, 1, 40), torch.Generator().manual_seed(0))
    assert drawn["noise"].shape[2:] == (32, 32, 32)
    large = change.apply(torch.full((1, 1, 40, 40, 40), 0.5), change.prepared(drawn))
    assert torch.equal(large[..., :8], large[..., 32:])


@pytest.mark.parametrize("shapes", [[(9, 8, 10)] * 5, [(9, 8, 10), (8, 8, 8), (12, 9, 8), (9, 8, 10), (20, 8, 8)]])
def test_a_view_is_the_same_however_the_batch_is_parted(shapes: list[tuple[int, ...]]) -> None:
    settings, rows = resolved({}), np.array([4, 0, 3, 1, 2])
    kept = cast(Decoded, volumes(*shapes))
    make = view_maker(kept, [settings] * 2, 7, Compute("cpu", "fp32", 1, False), keep_drawn=True)
    assert isinstance(make, VolumeViews)
    all_of_it = make(rows, 3, 2)
    again, other = make(rows, 3, 2), make(rows, 3, 1)
    for view in range(2):
        assert all_of_it.pixels[view].shape == (5, 1, SIDE, SIDE, SIDE)
        assert torch.equal(all_of_it.pixels[view], again.pixels[view])
        assert not torch.equal(all_of_it.pixels[view], other.pixels[view])
        for own in (np.array([0, 1]), np.array([2, 4])):
            part = make(rows, 3, 2, own)
            assert torch.allclose(part.pixels[view], all_of_it.pixels[view][own], atol=1e-5)
    assert not torch.equal(all_of_it.pixels[0], all_of_it.pixels[1])
    assert all_of_it.drawn[0].keys() >= {"volume_crop", "volume_flip"}


def test_without_a_list_volumes_get_the_changes_that_suit_them() -> None:
    names = [str(block["name"]) for block in suggested_changes(VOLUME)]
    assert [change.params.name for change in resolved({}).changes] == names
    assert changes_named(typed_views({}), VOLUME) == names
    own = resolved([{"name": "volume_crop", "scale_min": 0.064}, "volume_noise"])
    assert [change.params.name for change in own.changes] == ["volume_crop", "volume_noise"]
    assert needed_side([own], axes=3) == 20
    uncut = resolved(["volume_flip"])
    drawn = draw_view(Frame(2, 5, 6, 0, 0, 4), uncut, torch.Generator())
    assert drawn.boxes.tolist() == [[0, 0, 0, 4, 5, 6]] * 2


@pytest.mark.parametrize(
    ("views", "match"),
    [({"jitter": 0.5}, "short settings of views change images"), (["crop"], "`crop` is not made for volumes")],
)
def test_changes_of_images_are_refused_for_volumes_with_a_sentence(views: Any, match: str) -> None:
    with pytest.raises(TrainingError, match=match):
        resolved(views)


def test_changes_of_volumes_are_refused_for_images(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="`volume_flip` is not made for images"):
        resolve_views(typed_views(["volume_flip"]), tmp_path, IMAGE, (0.5,), (0.25,))
