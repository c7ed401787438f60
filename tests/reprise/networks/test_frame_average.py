"""`frame_average`: exact invariance of features and equivariance of places, and the groups behind them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from reprise.networks.backbone import build_backbone
from reprise.networks.frame_average import FrameAverage
from reprise.networks.local_features import local_features, places_of
from reprise.networks.symmetry_groups import Element, elements_of
from reprise.networks.weights.layers import layers_of

SIDE = 16


def noise(images: int = 3, side: int = SIDE) -> Tensor:
    return torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("group", ["c4", "d4"])
def test_a_group_is_closed_and_its_inverses_undo(group):
    elements, x = elements_of(group), noise()
    assert len(set(elements)) == {"c4": 4, "d4": 8}[group]
    moved = [element.moved(x) for element in elements]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(moved, 2))
    for second, first in itertools.product(elements, repeat=2):
        assert second.after(first) in elements
        assert torch.equal(second.after(first).moved(x), second.moved(first.moved(x)))
    for element in elements:
        assert torch.equal(element.inverse().moved(element.moved(x)), x)
        assert element.inverse().after(element) == Element(0, False)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("inner", ["resnet_tiny", "resnet20", "vit_mini"])
@pytest.mark.parametrize("group", ["c4", "d4"])
def test_features_are_invariant_and_places_equivariant_to_rounding(group, inner, training):
    torch.manual_seed(0)
    network = build_backbone("frame_average", 3, SIDE, options={"group": group, "inner": inner})
    network = network.double().train(training)
    x = noise()
    with torch.no_grad():
        features, places = network(x), local_features(network, x)
        for element in elements_of(group):
            moved = element.moved(x)
            assert float((network(moved) - features).abs().max()) <= 1e-10
            assert float((local_features(network, moved) - element.moved(places)).abs().max()) <= 1e-10
        plain = network.inner(x)
        assert float((network.inner(x.rot90(1, (2, 3))) - plain).abs().max()) > 1e-3  # the inner one is not
        assert features.shape == plain.shape == (3, network.num_features)


def test_c4_alone_tells_mirror_images_apart():
    torch.manual_seed(0)
    network = build_backbone("frame_average", 3, SIDE).double().eval()
    with torch.no_grad():
        assert float((network(noise()) - network(noise().flip(3))).abs().max()) > 1e-4


def test_it_is_the_mean_over_the_group():
    torch.manual_seed(0)
    network = build_backbone("frame_average", 3, SIDE, options={"group": "d4"}).double().eval()
    x = noise()
    want = sum(network.inner(torch.rot90(y, k, (2, 3))) for y in (x, x.flip(3)) for k in range(4)) / 8
    torch.testing.assert_close(network(x), want, atol=1e-12, rtol=0)


def test_it_has_the_layers_and_the_weights_of_the_inner_network():
    torch.manual_seed(0)
    network = build_backbone("frame_average", 3, SIDE)
    torch.manual_seed(0)
    plain = build_backbone("resnet_tiny", 3, SIDE)
    assert {k: tuple(v.shape) for k, v in network.inner.state_dict().items()} == {
        k: tuple(v.shape) for k, v in plain.state_dict().items()
    }
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), plain.parameters(), strict=True))
    assert layers_of(network) == [[f"inner.{name}" for name in layer] for layer in layers_of(plain)]
    assert places_of(network, 3, SIDE).stride == 4


def test_without_places_there_are_no_places():
    class Flat(nn.Module):
        num_features = 3 * SIDE**2

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    assert local_features(FrameAverage(Flat(), "c4"), noise()) is None
