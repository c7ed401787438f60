"""`timm`: any network that timm knows, under timm's own name (`resnet50`, `vit_tiny_patch16_224`).

Source: Wightman, "PyTorch Image Models", github.com/huggingface/pytorch-image-models.

Only this file imports timm, and only when such a name is used: the import takes two seconds.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict
from torch import nn

from reprise.config.errors import BackboneError
from reprise.config.params import StrictModel
from reprise.config.registry import names
from reprise.config.suggest import closest
from reprise.networks.backbone import Backbone, resolve_stem
from reprise.networks.torchvision_schemas import ensure_torchvision_imports

# Families whose networks are built for one image side, which timm's `create_model` takes as `img_size`.
_SIDED = ("vit", "deit", "beit", "eva", "swin", "mixer")


class TimmParams(StrictModel):
    """Further keyword arguments of timm's `create_model`; timm checks them."""

    model_config = ConfigDict(extra="allow")


class Timm(Backbone):
    """A network of timm without its classifier; a ResNet gets the small stem where `stem` says so."""

    Params = TimmParams

    def __init__(self, name: str, params: TimmParams) -> None:
        super().__init__(name, params)
        ensure_torchvision_imports()
        import timm

        if not timm.is_model(name):
            own = [known for known in names("backbones") if known != "timm"]
            close = closest(name, [*own, *timm.list_models()], 3)
            raise BackboneError(
                "unknown backbone",
                where="train.backbone",
                found=name,
                fix=f"Use {', '.join(own)} or a timm name.{f' Did you mean {_alternatives(close)}?' if close else ''}",
            )

    def build(self, channels: int, size: int, stem: str) -> nn.Module:
        """Build the network without weights of timm's: (B, C, S, S) -> (B, num_features)."""
        import timm

        sided: dict[str, Any] = {"img_size": size} if any(family in self.name for family in _SIDED) else {}
        network = timm.create_model(
            self.name, pretrained=False, num_classes=0, in_chans=channels, **sided, **self.params.model_dump()
        )
        if stem == "small" or (resolve_stem(stem, size) == "small" and _has_resnet_stem(network)):
            _replace_stem(network, self.name, channels)
        return network

    def made_for(self) -> dict[str, Any]:
        """Return what timm states for the published weights of that name."""
        import timm

        stated = timm.get_pretrained_cfg(self.name)
        return stated.to_dict() if stated else {}


def _alternatives(words: list[str]) -> str:
    quoted = [f"'{word}'" for word in words]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]


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
