"""Networks: shapes, stems, names, and the patch features against a loop."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reprise.config.errors import BackboneError, ParameterError
from reprise.config.plug_ins.registry import names
from reprise.media.lookup import IMAGE
from reprise.networks.backbone import backbone_named, build_backbone, resolve_stem
from reprise.networks.heads import Projector, Prototypes
from reprise.networks.patch_dictionary import NORMALISE_EPSILON, PatchDictionary
from reprise.networks.small.autoencoder import DenoisingAutoencoder
from reprise.networks.small.small_resnet import BasicBlock

OF_IMAGES = [name for name in names("backbones") if name != "timm" and IMAGE in backbone_named(name).modalities]


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
    build = "from reprise.networks.backbone import build_backbone; build_backbone('resnet_tiny', 3, 16)"
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
    with pytest.raises(BackboneError, match="unknown backbone.*resnet_tny.*Did you mean 'resnet_tiny', "):
        build_backbone("resnet_tny", 3, 32)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("resnet-50", "resnet50"),
        ("ResNet50", "resnet50"),
        ("ViT_mini", "vit_mini"),
        ("efficientnet-b0", "efficientnet_b0"),
    ],
)
def test_an_unknown_backbone_gets_suggestions_of_ours_and_of_timms(word, meant):
    with pytest.raises(BackboneError, match=f"unknown backbone.*Found: {word}.*Did you mean '{meant}'"):
        backbone_named(word)


def test_options_are_typed():
    assert build_backbone("resnet_tiny", 3, 16, options={"width": 4}).num_features == 16
    assert build_backbone("vit_mini", 3, 16, options={"patch_size": 8, "pool": "avg"}).patch_size == 8
    assert build_backbone("resnet18", 3, 16, options={"drop_rate": 0.5}).drop_rate == 0.5
    for name, options, words in (
        ("resnet_tiny", {"widht": 4}, "widht: unknown parameter.*Did you mean 'width'"),
        ("vit_mini", {"pool": "max"}, "pool: input should be 'token' or 'avg'"),
        ("patch_dictionary", {"patches": 0}, "patches: input should be greater than or equal to 1"),
    ):
        with pytest.raises(ParameterError, match=words):
            build_backbone(name, 3, 16, options=options)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_backbone_keeps_the_protocol(name):
    backbone = backbone_named(name)
    network = backbone.build(3, 16, "auto").eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3, 16, 16)).shape == (2, network.num_features)
    assert set(backbone.made_for()) <= {"input_size", "mean", "std", "classifier"}
    assert backbone.pooling == ("quadrants" if name == "patch_dictionary" else "average")


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


def test_a_patch_dictionary_sees_large_images_at_its_side():
    torch.manual_seed(0)
    network, whole = PatchDictionary(5, 3, 2, side=12), PatchDictionary(5, 3, 2)
    network.centroids.normal_()
    whole.load_state_dict(network.state_dict())
    large, small = torch.rand(2, 2, 40, 40), torch.rand(2, 2, 12, 12)
    halved = F.interpolate(large, (12, 12), mode="bilinear", antialias=True)
    torch.testing.assert_close(network(large), whole(halved))
    assert torch.equal(network(small), whole(small))


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


@pytest.mark.parametrize(
    ("architecture", "size", "options", "found"),
    [
        ("vit_mini", 8, {"patch_size": 8}, "images of 8 pixels, patches of 8. Choose patches of at most 4 pixels"),
        ("vit_tiny_patch16_224", 16, {}, "images of 16 pixels, patches of 16"),
        ("vit_tiny_patch16_224", 12, {}, "images of 12 pixels, patches of 16"),
    ],
)
def test_a_patch_that_is_the_whole_image_is_refused(architecture, size, options, found):
    with pytest.raises(BackboneError, match=f"patch is the whole image.*{found}"):
        build_backbone(architecture, 3, size, options=options)


@pytest.mark.parametrize(
    "name", ["convmixer_768_32", "davit_tiny", "fastvit_t8", "nextvit_small", "caformer_s18", "mobilenetv3_small_050"]
)
def test_networks_whose_names_do_not_say_what_they_take(name):
    """timm builds some for one side of images, and some have a layer behind their pooling that is wider than before."""
    with torch.device("meta"):
        network = build_backbone(name, 3, 64).eval()
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, network.num_features)


def test_a_network_without_a_side_gets_the_weights_of_timm():
    import timm

    torch.manual_seed(3)
    ours = build_backbone("regnetx_002", 3, 64).state_dict()
    torch.manual_seed(3)
    timms = timm.create_model("regnetx_002", pretrained=False, num_classes=0).state_dict()
    assert all(torch.equal(ours[key], timms[key]) for key in timms)


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet18", {"patch_size": 8}), ("vit_tiny_patch16_224", {"output_stride": 8}), ("vgg11", {"depth": 3})],
)
def test_options_of_another_family_are_refused(name, options):
    with torch.device("meta"), pytest.raises(BackboneError, match=f"takes other options.*{next(iter(options))}"):
        build_backbone(name, 3, 64, options=options)


def test_pixels_that_no_patch_would_see_are_refused():
    with pytest.raises(BackboneError, match=r"40 pixels, patches of 16; 8 pixels would be left out.*to 32 or 48"):
        build_backbone("vit_tiny_patch16_224", 3, 40)


def test_scores_of_prototypes_are_float32_under_bf16():
    """A bfloat16 product is off by 0.003 or so."""
    torch.manual_seed(0)
    prototypes, z = Prototypes(64, 300).requires_grad_(False), torch.randn(200, 64)
    exact = F.normalize(z.double(), dim=1) @ F.normalize(prototypes.weight.double(), dim=1).T
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = prototypes(z)
        coarse = F.linear(F.normalize(z, dim=1), F.normalize(prototypes.weight, dim=1))
    assert scores.dtype == torch.float32
    assert float((scores - exact).abs().max()) < 1e-6
    assert coarse.dtype == torch.bfloat16
    assert float((coarse - exact).abs().max()) > 1e-3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert prototypes(z.to(torch.bfloat16)).dtype == torch.float32
    assert prototypes.double()(z.double()).dtype == torch.float64
