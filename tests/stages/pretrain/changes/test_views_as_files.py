"""Masks, random fields, thin plates, distortions and the camera: each restated naively, or held to what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from reprise.training.change import Frame
from reprise.training.views import change_named
from stages.pretrain.changes import camera, mask_grid, random_field, tps
from stages.pretrain.methods.contrastive import re_iqa
from stages.pretrain.parts.pixels import warps
from stages.pretrain.parts.pixels.distortions import KINDS, LEVELS, distorted
from stages.pretrain.parts.pixels.luma import luma
from stages.pretrain.show_views import folds, moments_rows, moments_table
from tests.stages.pretrain.methods.conftest import build, random_batch

SIDE = 32


def frame(count: int, size: int = SIDE) -> Frame:
    return Frame(count, size, size, size, 3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """(16, 3, 32, 32) in [0, 1], smooth and coloured."""
    coarse = np.random.default_rng(0).integers(0, 256, (16, 7, 7, 3), dtype=np.uint8)
    pixels = np.stack([np.asarray(Image.fromarray(c).resize((SIDE, SIDE), 3)) for c in coarse])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


# --------------------------------------------------------------------------------------------------- masks
@pytest.mark.parametrize("ratio", [0.15, 0.3, 0.5])
def test_masks_hide_the_stated_share_to_a_cell(ratio):
    for focal in (0.0, 1.0):
        change = change_named("mask_grid", ratio=ratio, focal=focal)
        hidden = change.draw(frame(200), generator())["hidden"].flatten(2).sum(dim=2)
        exact = round(ratio * 64)
        off = 4 if focal else 0  # a window has whole rows and columns: half of the longer side more or less
        assert hidden.shape == (200, 3)
        assert int((hidden - exact).abs().max()) <= off


def test_a_focal_mask_leaves_one_window():
    hidden = change_named("mask_grid", ratio=0.5, focal=1.0).draw(frame(100), generator())["hidden"]
    for mask in hidden[:, 0]:
        rows, columns = (~mask).any(dim=1), (~mask).any(dim=0)
        assert bool((~mask)[rows][:, columns].all())
        assert int(rows.sum()) * int(columns.sum()) == int((~mask).sum())
    assert bool((hidden[:, :1] == hidden).all())  # the same in all channels


def test_channels_are_masked_independently_where_they_are_apart():
    apart = change_named("mask_grid", focal=0.0, channels_apart=1.0).draw(frame(4000), generator())["hidden"].float()
    share = float(apart[:, 0].mean())
    both = float((apart[:, 0] * apart[:, 1]).mean())
    assert both == pytest.approx(share**2, abs=4 * math.sqrt(share**2 / (4000 * 64)))
    some = change_named("mask_grid", focal=0.0, channels_apart=0.7).draw(frame(4000), generator())["hidden"]
    together = (some[:, :1] == some).flatten(1).all(dim=1).float().mean()
    assert float(together) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 4000))


def test_hidden_cells_hold_noise_of_the_stated_deviation(photos):
    change = change_named("mask_grid", noise=0.1, focal=0.0)
    drawn = change.draw(frame(16), generator())
    changed = change.apply(photos.clone(), change.prepared(drawn))
    hidden = drawn["hidden"].repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.equal(changed[~hidden], photos[~hidden])
    assert float(changed[hidden].mean()) == pytest.approx(mask_grid.MIDDLE, abs=0.005)
    assert float(changed[hidden].std()) == pytest.approx(0.1, rel=0.03)  # five deviations lie within the scale
    flat = change_named("mask_grid", noise=0.0, focal=0.0)
    assert bool((flat.apply(photos.clone(), flat.prepared(drawn))[hidden] == 0.5).all())


# -------------------------------------------------------------------------------------------------- fields
@pytest.mark.parametrize("length", [3.0, 8.0, None])
def test_fields_have_mean_0_variance_1_and_the_stated_covariance(length):
    waves = change_named("random_field", length=length).draw(frame(1000), generator())["waves"]
    found = random_field.fields(waves[:, :2], SIDE, length)
    assert found.shape == (1000, 2, SIDE, SIDE)
    assert abs(float(found.mean())) < 0.05
    assert float(found.var()) == pytest.approx(1.0, rel=0.05)
    for distance in (2, 6):
        product = float((found[:, :, 10, 10] * found[:, :, 10, 10 + distance]).mean())
        stated = 1.0 if length is None else math.exp(-(distance**2) / (2 * length**2))
        assert product == pytest.approx(stated, abs=0.05)
    exact = random_field.root(SIDE, length)
    if length is not None:  # not only on average
        place = torch.arange(SIDE, dtype=torch.float64)
        stated = torch.exp(-((place[:, None] - place) ** 2) / (2 * length**2))
        torch.testing.assert_close((exact @ exact.T).double(), stated, atol=1e-5, rtol=0)


def test_a_field_of_infinite_length_is_the_global_change(photos):
    """Against one affine map (torch's own) and one change of colours for each image."""
    change = change_named("random_field", sigma=0.1, length=None)
    drawn = change.draw(frame(16), generator())
    found = change.apply(photos.clone(), change.prepared(drawn))
    values = dict(zip(random_field.UNITS, (drawn["waves"][:, :, 0, 0] * 0.1).T, strict=True))
    own = {name: value * random_field.UNITS[name] for name, value in values.items()}
    cosine, sine, scale = torch.cos(own["rotation"]), torch.sin(own["rotation"]), torch.exp(own["scale"])
    zero = torch.zeros_like(scale)
    turn = torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)
    stretch = torch.stack([scale, scale * own["shear"], zero, scale], dim=1).view(-1, 2, 2)
    shift = torch.stack([own["right"], own["down"]], dim=1)[:, :, None]
    grid = F.affine_grid(torch.cat([turn @ stretch, shift], dim=2), [16, 3, SIDE, SIDE], align_corners=False)
    want = F.grid_sample(photos, grid, padding_mode="reflection", align_corners=False)
    want = (want * torch.exp(own["brightness"]).view(-1, 1, 1, 1)).clamp(0, 1)
    grey = luma(want)
    want = (grey + (want - grey) * torch.exp(own["saturation"]).view(-1, 1, 1, 1)).clamp(0, 1)
    want = random_field.turned_hue(want, own["hue"].view(-1, 1, 1, 1)).clamp(0, 1)
    assert float((found - want).abs().mean()) < 1e-4
    assert float(((found - want).abs() > 1e-4).float().mean()) < 1e-3  # hues of almost grey pixels


def test_strong_fields_fold_and_mild_ones_do_not():
    mild, strong = (change_named("random_field", sigma=s, length=4.0) for s in (0.005, 0.5))
    drawn = mild.draw(frame(50), generator())
    assert float(warps.folded_share(mild.source(drawn, SIDE)).max()) == 0.0
    assert float(warps.folded_share(strong.source(drawn, SIDE)).mean()) > 0.1
    x = torch.rand(2, 3, SIDE, SIDE, generator=generator())
    assert folds(mild, x) == 0.0 < 0.1 < folds(strong, x)
    assert folds(change_named("flip"), x) is None
    assert [line for line in moments_table(list(moments_rows([mild], x)), len(x)) if "folds" in line] == [
        "                   folds 0.00% of the pixels"
    ]


# -------------------------------------------------------------------------------------------------- plates
def test_a_plate_moves_its_control_points_and_rests_without_offsets(photos):
    offsets = torch.randn(16, 2, generator=generator(), dtype=torch.float64) * 0.1
    rest = tps.control_points(4)
    moved = rest + tps.plate_at(rest, 4) @ offsets
    torch.testing.assert_close(moved, rest + offsets, atol=1e-5, rtol=0)
    change = change_named("tps", sigma=0.0)
    drawn = change.draw(frame(16), generator())
    assert torch.equal(change.source(drawn, SIDE), warps.places(SIDE).expand(16, -1, -1, -1))
    torch.testing.assert_close(change.apply(photos.clone(), change.prepared(drawn)), photos, atol=1e-5, rtol=0)


def test_an_affine_motion_of_the_points_is_an_affine_map():
    rest, where = tps.control_points(3), torch.rand(50, 2, generator=generator(), dtype=torch.float64) * 2 - 1
    matrix = torch.tensor([[0.1, -0.05], [0.02, 0.07]], dtype=torch.float64)
    torch.testing.assert_close(tps.plate_at(where, 3) @ (rest @ matrix + 0.1), where @ matrix + 0.1, atol=1e-9, rtol=0)


def test_the_inverse_of_a_plate_leads_back_within_a_tenth_of_a_pixel():
    size, change = 64, change_named("tps")
    drawn = change.draw(frame(16, size), generator())
    inverse = warps.inverse_of(change.source(drawn, size).double())
    plate = tps.plate_at(inverse.reshape(-1, 2), 4).view(16, -1, 16)
    back = inverse + (plate @ drawn["offsets"].double()).view(inverse.shape)
    off = ((back - warps.places(size)) * size / 2).norm(dim=3)
    assert float(off[(inverse.abs() < 1).all(dim=3)].max()) < 0.1


def test_masks_and_boxes_move_with_their_image():
    size, change = 64, change_named("tps", sigma=0.02)
    drawn = change.draw(frame(8, size), generator())
    boxes = torch.tensor([[20.0, 24.0, 18.0, 14.0]] * 8)
    mask = torch.zeros(8, 1, size, size)
    mask[:, :, 20:38, 24:38] = 3.0
    carried = change.carried(mask, drawn)
    assert set(carried.unique().tolist()) == {0.0, 3.0}
    image = warps.warped(mask, change.source(drawn, size))
    assert float(((image > 1.5) == (carried > 1.5)).float().mean()) > 0.99
    found = change.carried_boxes(boxes, drawn, size)
    for own, box in zip(carried[:, 0], found.tolist(), strict=True):
        rows, columns = own.any(dim=1).nonzero()[:, 0], own.any(dim=0).nonzero()[:, 0]
        seen = [int(rows[0]), int(columns[0]), len(rows), len(columns)]
        assert np.abs(np.array(box) - seen).max() < 1.6


# --------------------------------------------------------------------------------------------- distortions
@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
@pytest.mark.parametrize("size", [16, 32])
def test_the_signal_to_noise_ratio_falls_with_the_level(photos, kind, size):
    x = F.interpolate(photos, size=size, mode="bilinear", antialias=True)
    noise = torch.randn(x.shape, generator=generator())
    errors = [float((distorted(x, kind, level, noise) - x).square().mean()) for level in range(LEVELS)]
    assert errors[0] > 0
    assert errors == sorted(errors)
    assert len(set(errors)) == LEVELS


def test_there_are_a_dozen_kinds_and_each_is_drawn(photos):
    assert len(KINDS) >= 12
    drawn = change_named("distort").draw(frame(2000), generator())
    assert torch.bincount(drawn["kind"]).min() > 100
    assert torch.bincount(drawn["level"]).tolist() == pytest.approx([400] * LEVELS, abs=90)
    mild = change_named("distort", levels=1).draw(frame(50), generator())
    assert int(mild["level"].max()) == 0


# --------------------------------------------------------------------------------------------------- camera
def test_raw_and_back_is_the_picture(photos):
    torch.testing.assert_close(camera.to_rgb(camera.to_raw(photos)), photos, atol=1e-3, rtol=0)
    still = change_named("camera", balance=0.0, exposure=0.0, shot=0.0, read=0.0)
    drawn = still.draw(frame(16), generator())
    torch.testing.assert_close(still.apply(photos.clone(), still.prepared(drawn)), photos, atol=1e-3, rtol=0)


def test_the_noise_s_variance_is_linear_in_the_brightness():
    grey = torch.linspace(0.3, 0.85, 12)
    raw = camera.to_raw(grey.view(-1, 1, 1, 1).expand(12, 3, 64, 64))
    levels = raw[:, 1, 0, 0]
    change = change_named("camera", balance=0.0, exposure=0.0)
    drawn = change.draw(Frame(12, 64, 64, 64, 3), generator())
    drawn |= {"shot": torch.full((12,), 4e-4), "read": torch.full((12,), 1e-5)}
    seen = camera.to_raw(change.changed(camera.to_rgb(raw), drawn))[:, 1].flatten(1)  # green
    clean = raw[:, 1].flatten(1)
    variance = (seen - clean).var(dim=1).numpy()
    slope, start = np.polyfit(levels.numpy(), variance, 1)
    explained = 1 - np.var(variance - (slope * levels.numpy() + start)) / np.var(variance)
    assert explained > 0.99
    assert slope == pytest.approx(4e-4, rel=0.1)
    assert start == pytest.approx(1e-5, abs=5e-6)


# --------------------------------------------------------------------------------------------------- re_iqa
@pytest.mark.parametrize(("size", "side"), [(32, 18), (16, 9), (8, 4)])
def test_crops_overlap_by_a_tenth_to_three_tenths(size, side):
    torch.manual_seed(0)
    first, second = re_iqa.crop_places(10_000, size, side)
    assert int(torch.cat([first, second]).min()) >= 0
    assert int(torch.cat([first, second]).max()) <= size - side
    shared = (side - (first - second).abs()).prod(dim=1) / side**2
    assert float(shared.min()) >= 0.1
    assert float(shared.max()) <= 0.3
    assert abs(float((first < second).float().mean() - (first > second).float().mean())) < 0.05


def test_other_copies_of_an_image_are_negatives():
    torch.manual_seed(0)
    queries, keys, queue = torch.randn(3, 4, 5), torch.randn(3, 4, 5), F.normalize(torch.randn(6, 5), dim=1)
    unit = torch.nn.functional.normalize
    total = 0.0
    for b in range(3):
        for k in range(4):
            q = unit(queries[b, k], dim=0)
            scores = [float(q @ unit(keys[b, j], dim=0)) / 0.2 for j in range(4)]
            scores += [float(q @ other) / 0.2 for other in queue]
            total -= scores[k] - math.log(sum(math.exp(s) for s in scores))
    assert float(re_iqa.chunk_loss(queries, keys, queue, 0.2)) == pytest.approx(total / 12, abs=1e-5)
    alike = keys.clone()
    alike[:, 1:] = keys[:, :1]  # copies that nothing tells apart
    assert re_iqa.chunk_loss(queries, alike, queue, 0.2) > re_iqa.chunk_loss(keys, keys, queue, 0.2)


def test_a_chunk_holds_the_image_and_its_copies():
    method = build("re_iqa", copies=3)
    batch = random_batch(method)
    torch.manual_seed(1)
    copies = method.copies(batch.views[0], batch)
    assert copies.shape == (8, 4, 3, 8, 8)
    assert torch.equal(copies[:, 0], batch.views[0].clamp(0, 1))
    assert len({copy.numpy().tobytes() for copy in copies[0]}) == 4
    loss, shown = method.step(batch)
    loss.backward()
    assert shown["features"].shape == (32, 12)
    assert len(method.queue) == 24
