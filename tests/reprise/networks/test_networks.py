"""Networks: shapes, stems, names, and the patch features against a loop."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from reprise.config.errors import BackboneError
from reprise.networks.autoencoder import DenoisingAutoencoder
from reprise.networks.backbones import build_backbone, resolve_stem
from reprise.networks.heads import Projector
from reprise.networks.patch_dictionary import NORMALISE_EPSILON, PatchDictionary
from reprise.networks.small_resnet import BasicBlock


@pytest.mark.parametrize(
    ("architecture", "side", "features"),
    [("resnet_tiny", 16, 64), ("resnet20", 32, 64), ("resnet18", 32, 512), ("vit_tiny_patch16_224", 32, 192)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_features_have_the_stated_width(architecture, side, features, channels):
    network = build_backbone(architecture, channels, side).eval()
    with torch.no_grad():
        assert network(torch.randn(2, channels, side, side)).shape == (2, features)
    assert network.num_features == features


def test_resnet20_is_the_one_of_the_paper():
    network = build_backbone("resnet20", 3, 32)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) == 19  # and a classifier make twenty
    with torch.no_grad():
        assert network.forward_features(torch.randn(1, 3, 32, 32)).shape == (1, 64, 8, 8)


@pytest.mark.parametrize(("inplanes", "planes", "stride"), [(8, 8, 1), (8, 16, 2)])
def test_the_block_is_timms(inplanes, planes, stride):
    from reprise.networks.torchvision_schemas import ensure_torchvision_imports

    ensure_torchvision_imports()
    from timm.models.resnet import BasicBlock as Reference

    shortcut = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
    reference = Reference(inplanes, planes, stride, shortcut if stride > 1 else None)
    ours = BasicBlock(inplanes, planes, stride)
    ours.load_state_dict(reference.state_dict(), strict=True)
    x = torch.randn(4, inplanes, 6, 6)
    torch.testing.assert_close(ours(x), reference(x))


def test_small_networks_do_without_timm(repository):
    """timm takes two seconds to import; a stage that builds resnet_tiny does not pay them."""
    build = "from reprise.networks.backbones import build_backbone; build_backbone('resnet_tiny', 3, 16)"
    code = f"import sys; {build}; sys.exit('timm' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(repository)}, check=False).returncode == 0
    )


def test_stems():
    assert (resolve_stem("auto", 64), resolve_stem("auto", 65), resolve_stem("imagenet", 16)) == (
        "small",
        "imagenet",
        "imagenet",
    )
    small, large = build_backbone("resnet18", 3, 32), build_backbone("resnet18", 3, 224)
    assert small.conv1.kernel_size == (3, 3)
    assert isinstance(small.maxpool, nn.Identity)
    assert large.conv1.kernel_size == (7, 7)
    with pytest.raises(BackboneError, match="no ResNet stem"):
        build_backbone("vit_tiny_patch16_224", 3, 32, "small")
    with pytest.raises(BackboneError, match="unknown backbone.*resnet_tny.*resnet_tiny"):
        build_backbone("resnet_tny", 3, 32)


def test_projector_taps_are_what_the_forward_pass_goes_through():
    head = Projector([6, 5, 4, 3]).eval()
    h = torch.randn(7, 6)
    taps = head.taps(h)
    assert {k: v.shape for k, v in taps.items()} == {"projector1": (7, 5), "projector2": (7, 4)}
    torch.testing.assert_close(head.output(taps["projector2"]), head(h))
    assert (taps["projector1"] >= 0).all()


@pytest.mark.parametrize("side", [8, 12, 17])
def test_autoencoder_restores_any_side(side):
    network = DenoisingAutoencoder(3)
    x = torch.rand(2, 3, side, side)
    assert network(x).shape == x.shape
    assert network.code(x).shape == (2, 128)
    assert network(x).min() >= 0
    assert network(x).max() <= 1


def test_patch_features_equal_a_loop():
    torch.manual_seed(0)
    network = PatchDictionary(patches=5, patch_size=3, channels=2)
    network.centroids.normal_()
    network.whitening.copy_(torch.randn(18, 18) * 0.1)
    network.whitening_mean.normal_()
    network.input_mean.copy_(torch.tensor([0.4, 0.6]))
    network.input_std.copy_(torch.tensor([0.2, 0.3]))
    x = torch.randn(1, 2, 8, 8)
    pixels = 255 * (x[0] * network.input_std.view(2, 1, 1) + network.input_mean.view(2, 1, 1)).numpy().astype(
        np.float64
    )
    codes = np.zeros((6, 6, 5))
    for top in range(6):
        for left in range(6):
            patch = pixels[:, top : top + 3, left : left + 3].reshape(-1)
            patch = patch - patch.mean()
            patch = patch / np.sqrt(patch.var(ddof=1) + NORMALISE_EPSILON)
            white = (patch - network.whitening_mean.numpy()) @ network.whitening.numpy()
            distance = np.linalg.norm(white - network.centroids.numpy(), axis=1)
            codes[top, left] = np.maximum(0, distance.mean() - distance)
    want = np.stack([codes[r : r + 3, c : c + 3].mean((0, 1)) for r in (0, 3) for c in (0, 3)], axis=1).reshape(-1)
    np.testing.assert_allclose(network(x)[0].numpy(), want, atol=1e-4)
