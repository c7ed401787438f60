"""Backbones by name: the project's small networks, or anything that timm knows.

A backbone maps (B, C, S, S) to (B, num_features) and keeps timm's key names, so its weights load into timm
with `strict=True`.
"""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from reprise.config.errors import BackboneError
from reprise.networks.patch_dictionary import PatchDictionary
from reprise.networks.small_resnet import BLOCKS, SmallResNet
from reprise.networks.small_vit import SmallViT
from reprise.networks.torchvision_schemas import ensure_torchvision_imports

OWN = (*BLOCKS, "vit_mini")
# Pixels: up to here a 7x7 stride-2 stem with pooling would throw most of the image away.
SMALL_SIDE = 64


def build_backbone(
    architecture: str, channels: int, size: int, stem: str = "auto", options: dict[str, Any] | None = None
) -> nn.Module:
    """Build an untrained backbone from the global torch RNG.

    Args:
        architecture: `resnet_tiny`, `resnet20`, `vit_mini`, `patch_dictionary`, or a timm name.
        channels: image channels. size: image side in pixels.
        stem: `imagenet` leaves timm's stem, `small` replaces it by a 3x3 stride-1 convolution without pooling
            (SimCLR, appendix B.9), `auto` chooses `small` for images up to 64 pixels.
        options: further keyword arguments of the architecture.

    Raises:
        BackboneError: unknown name, or a stem that the architecture does not have.
    """
    options = options or {}
    if architecture == "patch_dictionary":
        return PatchDictionary(channels=channels, **options)
    if architecture in BLOCKS:
        return SmallResNet(BLOCKS[architecture], channels, **options)
    if architecture == "vit_mini":
        patch_size = 4 if resolve_stem(stem, size) == "small" else 16
        return SmallViT(channels=channels, size=size, **{"patch_size": patch_size, **options})
    ensure_torchvision_imports()
    import timm

    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, [*OWN, *timm.list_models()], n=3)
        raise BackboneError(
            "unknown backbone",
            where="train.backbone",
            found=architecture,
            fix=f"Use {', '.join(OWN)} or a timm name.{' Near: ' + ', '.join(close) + '.' if close else ''}",
        )
    extra: dict[str, Any] = {"img_size": size} if _takes_image_size(architecture) else {}
    network = timm.create_model(architecture, pretrained=False, num_classes=0, in_chans=channels, **extra, **options)
    if stem == "small" or (resolve_stem(stem, size) == "small" and _has_resnet_stem(network)):
        _replace_stem(network, architecture, channels)
    return network


def resolve_stem(stem: str, size: int) -> str:
    """`auto` -> `small` or `imagenet`, by the image side in pixels."""
    return ("small" if size <= SMALL_SIDE else "imagenet") if stem == "auto" else stem


def _takes_image_size(architecture: str) -> bool:
    return any(family in architecture for family in ("vit", "deit", "beit", "eva", "swin", "mixer"))


def _has_resnet_stem(network: nn.Module) -> bool:
    return isinstance(getattr(network, "conv1", None), nn.Conv2d) and hasattr(network, "maxpool")


def _replace_stem(network: nn.Module, architecture: str, channels: int) -> None:
    if not _has_resnet_stem(network):
        raise BackboneError(
            "this architecture has no ResNet stem to replace",
            where="train.stem",
            found=f"small with {architecture}",
            fix="Set train.stem to imagenet or choose a ResNet.",
        )
    stem = nn.Conv2d(channels, network.conv1.out_channels, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.conv1, network.maxpool = stem, nn.Identity()
