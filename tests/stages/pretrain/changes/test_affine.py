"""The change `affine`: what it draws, against torch's own affine grid and the decomposition of linear maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reprise.measures.geometry.affine import taken_apart
from reprise.training.change import Frame
from reprise.training.views import change_named
from stages.pretrain.changes import affine

SIDE = 32


def drawn_by(change, count: int = 400, seed: int = 0):
    return change.draw(Frame(count, SIDE, SIDE, SIDE, 3), torch.Generator().manual_seed(seed))


def test_draws_are_the_coordinates_of_their_maps_and_lie_in_their_ranges():
    change = change_named("affine", rotation=60.0, scale=1.5, stretch=2.0, shift=0.2)
    drawn = drawn_by(change)
    maps = affine.matrix_of(drawn).double().numpy()
    polar = taken_apart(maps)
    np.testing.assert_allclose(polar.angle, drawn["angle"], atol=1e-5)
    traces = polar.stretch.trace(axis1=1, axis2=2)
    np.testing.assert_allclose(traces / 2, drawn["size"], atol=1e-5)
    values = np.linalg.eigvalsh(polar.stretch)
    np.testing.assert_allclose(values[:, 1] - values[:, 0], drawn["stretch"], atol=1e-5)
    for name, low, high in (
        ("angle", -math.pi / 3, math.pi / 3),
        ("size", -math.log(1.5), math.log(1.5)),
        ("stretch", 0.0, math.log(2.0)),
        ("axis", 0.0, math.pi),
        ("shift", -0.4, 0.4),
    ):
        value = drawn[name]
        assert low <= float(value.min()) < low + 0.05 * (high - low)
        assert high >= float(value.max()) > high - 0.05 * (high - low)
    back = affine.inverse_of(drawn) @ affine.matrix_of(drawn)
    torch.testing.assert_close(back, torch.eye(2).expand(400, 2, 2), atol=1e-5, rtol=0)


def test_it_is_torchs_affine_grid():
    change = change_named("affine")
    drawn = drawn_by(change, 8)
    x = torch.rand(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    inverse = torch.linalg.inv(affine.matrix_of(drawn))
    theta = torch.cat([inverse, -(inverse @ drawn["shift"][:, :, None])], dim=2)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    want = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(change.apply(x.clone(), change.prepared(drawn)), want, atol=1e-4, rtol=0)


def test_nothing_drawn_changes_nothing():
    change = change_named("affine", rotation=0.0, scale=1.0, stretch=1.0, shift=0.0)
    x = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(change.apply(x.clone(), change.prepared(drawn_by(change, 4))), x, atol=1e-4, rtol=0)


def test_a_turn_goes_to_the_right_and_a_size_above_0_enlarges():
    zero = torch.zeros(1)
    still = {"angle": zero, "size": zero, "stretch": zero, "axis": zero, "shift": torch.zeros(1, 2)}
    change = change_named("affine")
    x = torch.zeros(1, 1, SIDE, SIDE)
    x[:, :, 4:8, 12:20] = 1.0
    quarter = change.changed(x, {**still, "angle": torch.tensor([math.pi / 2])})
    torch.testing.assert_close(quarter, torch.rot90(x, -1, (2, 3)), atol=1e-4, rtol=0)
    assert float(change.changed(x, {**still, "size": torch.tensor([math.log(1.5)])}).sum()) > 1.2 * float(x.sum())
    right = change.changed(x, {**still, "shift": torch.tensor([[0.5, 0.0]])})
    torch.testing.assert_close(right, x.roll(SIDE // 4, 3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("strong", [False, True])
def test_masks_and_boxes_move_with_their_image(strong):
    size = 64
    # Weaker than it could be: beyond the edges the reflected object would come in.
    options = {"rotation": 180.0, "scale": 1.0, "stretch": 1.3, "shift": 0.05} if strong else {"shift": 0.02}
    change = change_named("affine", **options)
    drawn = change.draw(Frame(24, size, size, size, 3), torch.Generator().manual_seed(3))
    boxes = torch.tensor([[26.0, 27.0, 12.0, 9.0]] * 24)
    mask = torch.zeros(24, 1, size, size)
    mask[:, :, 26:38, 27:36] = 3.0
    carried = change.carried(mask, drawn)
    assert set(carried.unique().tolist()) == {0.0, 3.0}
    image = change.changed(mask, drawn)
    assert float(((image > 1.5) == (carried > 1.5)).float().mean()) > 0.99
    found = change.carried_boxes(boxes, drawn, size)
    for own, box in zip(carried[:, 0], found.tolist(), strict=True):
        rows, columns = own.any(dim=1).nonzero()[:, 0], own.any(dim=0).nonzero()[:, 0]
        seen = [int(rows[0]), int(columns[0]), int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)]
        assert np.abs(np.array(box) - seen).max() < 2.1  # corners of a turned box cover little of a pixel
