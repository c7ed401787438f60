"""Local features of each kind of backbone: their form, where they lie, and what pooling makes of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reprise.config.plug_ins.registry import names
from reprise.media.lookup import IMAGE
from reprise.networks.backbone import backbone_named, build_backbone
from reprise.networks.local_features import local_features, places_of
from reprise.networks.patch_dictionary import PatchDictionary

OF_IMAGES = [name for name in names("backbones") if name != "timm" and IMAGE in backbone_named(name).modalities]


def noise(side: int, images: int = 2) -> Tensor:
    return torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("architecture", "side", "options", "places", "stride"),
    [
        ("resnet_tiny", 16, {}, (64, 4, 4), 4),
        ("resnet20", 32, {"width": 4}, (16, 8, 8), 4),
        ("vit_mini", 16, {"width": 12, "pool": "avg"}, (12, 4, 4), 4),
        ("vit_tiny_patch16_224", 32, {"depth": 1, "global_pool": "token"}, (192, 2, 2), 16),  # timm: tokens
        ("convnext_atto", 64, {}, (320, 2, 2), 32),  # timm: a map, and a layer behind the pooling
        ("mambaout_femto", 64, {}, (288, 2, 2), 32),  # timm: the channels are last
    ],
)
def test_places_divide_the_image(architecture, side, options, places, stride):
    network = build_backbone(architecture, 3, side, options=options).eval()
    found = places_of(network, 3, side)
    assert (found.width, found.rows, found.columns, found.stride) == (*places, stride)
    with torch.no_grad():
        assert tuple(local_features(network, noise(side)).shape) == (2, *places)
    assert found.centre(0, side) == stride / 2


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_backbone_of_ours_has_local_features_and_its_output_is_made_of_them(name):
    network = build_backbone(name, 3, 16).eval()
    if isinstance(network, PatchDictionary):  # untrained it is empty
        network.centroids.normal_()
    with torch.no_grad():
        x = noise(16)
        output, local = network(x), local_features(network, x)
        if name == "vit_mini":  # the class token, which is no place
            torch.testing.assert_close(output, network.forward_features(x)[:, 0])
        elif name == "patch_dictionary":  # four means, the middle row and column in two of them
            quadrants = [local[:, :, rows, columns].mean(dim=(2, 3)) for rows in halves(11) for columns in halves(11)]
            torch.testing.assert_close(output, torch.stack(quadrants, dim=2).flatten(1))
        else:
            torch.testing.assert_close(output, local.mean(dim=(2, 3)))
    assert places_of(network, 3, 16).mean_is_output == (name not in ("vit_mini", "patch_dictionary"))


def halves(side: int) -> tuple[slice, slice]:
    return slice(0, (side + 1) // 2), slice(side // 2, side)


def test_the_mean_of_a_transformer_that_averages_is_its_output():
    network = build_backbone("vit_mini", 3, 16, options={"pool": "avg"}).eval()
    with torch.no_grad():
        x = noise(16)
        torch.testing.assert_close(network(x), local_features(network, x).mean(dim=(2, 3)))
    assert places_of(network, 3, 16).mean_is_output


def test_patches_of_a_dictionary_lie_where_they_were_cut():
    """A single bright patch is the place whose code differs; its centre is the patch's."""
    network = build_backbone("patch_dictionary", 1, 16, options={"patches": 8, "patch_size": 6}).eval()
    network.centroids.normal_(generator=torch.Generator().manual_seed(0))
    places = places_of(network, 1, 16)
    assert (places.rows, places.stride, places.centre(0, 16), places.centre(10, 16)) == (11, 1, 3, 13)
    scaled = places_of(build_backbone("patch_dictionary", 1, 32, options={"side": 16}), 1, 32)
    assert (scaled.rows, scaled.stride, scaled.centre(0, 32)) == (11, 2, 6)


class Fixed(nn.Module):
    """A network with local features of a given shape."""

    def __init__(self, *shape: int, **attributes) -> None:
        super().__init__()
        self.shape = shape
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward_features(self, x: Tensor) -> Tensor:
        return torch.arange(float(torch.tensor(self.shape).prod())).reshape(self.shape)


def test_tokens_are_laid_out_row_by_row_without_those_of_no_place():
    found = local_features(Fixed(1, 6, 2, num_prefix_tokens=2), noise(4))
    assert found[0, :, :, :].tolist() == [[[4, 6], [8, 10]], [[5, 7], [9, 11]]]
    found = local_features(Fixed(1, 5, 2, cls_token=torch.zeros(1)), noise(4))  # a class token that nobody counts
    assert found.shape == (1, 2, 2, 2)


def test_a_network_without_places_has_no_local_features():
    for network in (nn.Flatten(), Fixed(1, 6, 2), Fixed(1, 1, 2, num_prefix_tokens=1), Fixed(3, 4)):
        assert local_features(network, noise(4)) is None
        assert places_of(network, 3, 4) is None
