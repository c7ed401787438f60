"""Networks of three-dimensional convolutions: shapes, stems, memory formats, and the way into and out of a folder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from reprise.config.plug_ins.registry import names
from reprise.media.lookup import NAMES, VOLUME
from reprise.networks.axes import axes_of, blank, channels_last, normalised
from reprise.networks.backbone import backbone_named, build_backbone
from reprise.networks.memory.footprint import footprint

OF_VOLUMES = [name for name in names("backbones") if name != "timm" and VOLUME in backbone_named(name).modalities]


def test_each_backbone_says_what_it_sees() -> None:
    assert OF_VOLUMES == ["resnet3d_18", "resnet3d_tiny"]
    for name in names("backbones"):
        assert set(backbone_named("resnet18" if name == "timm" else name).modalities) <= set(NAMES)


@pytest.mark.parametrize("name", OF_VOLUMES)
def test_a_volume_becomes_a_vector_and_both_views_of_it_in_memory_the_same(name: str) -> None:
    torch.manual_seed(0)
    network = build_backbone(name, 2, 9, options={"width": 4}).eval()
    x = torch.randn(2, 2, 9, 10, 11)
    features = network(x)
    assert features.shape == (2, network.num_features)
    assert axes_of(network) == 3
    last = network.to(memory_format=channels_last(3))(x.contiguous(memory_format=torch.channels_last_3d))
    assert torch.allclose(features, last, atol=1e-5)


def test_the_usual_network_has_its_known_number_of_weights_and_a_stem_that_halves() -> None:
    """33,160,128 weights of MONAI's and Hara's for 3 channels and 400 classes, without the last layer and biases."""
    network = build_backbone("resnet3d_18", 3, 96)
    assert isinstance(network.maxpool, nn.MaxPool3d)
    assert network.conv1.weight.shape == (64, 3, 7, 7, 7)
    assert 33_160_000 < sum(p.numel() for p in network.parameters()) < 33_240_000
    assert isinstance(build_backbone("resnet3d_18", 1, 24).maxpool, nn.Identity)
    assert build_backbone("resnet3d_18", 1, 24, "imagenet").conv1.stride == (2, 2, 2)


def test_the_footprint_of_a_network_of_volumes_is_laid_out_without_memory() -> None:
    with torch.device("meta"):
        network = build_backbone("resnet3d_tiny", 1, 96)
    laid_out = footprint(network, 1, 96)
    assert laid_out.features == 64
    assert laid_out.kept > 48**3 * 16


def test_pixels_are_normalised_by_channel_whatever_their_axes() -> None:
    rng = np.random.default_rng(0)
    for shape in ((2, 4, 5, 3), (2, 4, 5, 6, 3)):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        found = normalised(torch.from_numpy(pixels), [0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
        expected = (pixels / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
        assert np.allclose(found.numpy(), np.moveaxis(expected, -1, 1), atol=1e-6)
        assert found.is_contiguous(memory_format=channels_last(len(shape) - 2))
    assert blank(build_backbone("resnet_tiny", 1, 8), 2, 1, 8).shape == (2, 1, 8, 8)
