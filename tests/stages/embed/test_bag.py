"""A bag of patches: the mean of what a network says of each, wherever they stand in the row."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from stages.embed import bag
from stages.embed.bag import BagOfPatches, patch_places
from stages.embed.params import EmbedParams


def network(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Something that is not linear in the pixels."""
    return {"backbone": x.square().mean(dim=(2, 3)), "projector": x.amax(dim=(2, 3))}


def test_the_bag_is_the_mean_of_its_patches(monkeypatch):
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    holder: torch.nn.Module = torch.nn.Identity()
    holder.forward = network  # type: ignore[method-assign]
    found = BagOfPatches(holder, 5, 0.25)(x)
    parts = []
    for top, left, side in patch_places(5, 0.25, 16):
        cut = x[:, :, top : top + side, left : left + side]
        parts.append(network(F.interpolate(cut, size=(16, 16), mode="bilinear", antialias=True)))
    for name in ("backbone", "projector"):
        torch.testing.assert_close(found[name], sum(part[name] for part in parts) / 5)
    places = patch_places(5, 0.25, 16)
    monkeypatch.setattr(bag, "patch_places", lambda *_: places[::-1])
    torch.testing.assert_close(BagOfPatches(holder, 5, 0.25)(x)["backbone"], found["backbone"])


@pytest.mark.parametrize(("patches", "area", "size", "side"), [(1, 0.25, 32, 16), (16, 0.2, 32, 14), (4, 1.0, 24, 24)])
def test_patches_have_one_area_and_lie_within_the_image(patches, area, size, side):
    places = patch_places(patches, area, size)
    assert len(places) == patches
    assert {own for _, _, own in places} == {side}
    assert all(0 <= top <= size - side and 0 <= left <= size - side for top, left, _ in places)
    assert places[0][:2] == (round((size - side) / 2), round((size - side) / 2))
    assert patch_places(patches + 3, area, size)[:patches] == places


def test_patches_spread_over_the_image():
    quarters = {(top > 8, left > 8) for top, left, _ in patch_places(16, 0.25, 32)}
    assert len(quarters) == 4


def test_parameters_that_do_without_are_written_as_ever():
    assert "bag" not in EmbedParams().model_dump()
    assert EmbedParams(bag=16, bag_area=0.2).model_dump()["bag"] == 16
