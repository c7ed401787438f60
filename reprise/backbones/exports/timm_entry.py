"""Our own architectures as a model of timm: importing this module registers `reprise_backbone`.

    import timm
    import reprise.backbones.exports.timm_entry

    backbone = timm.create_model("local-dir:FOLDER", pretrained=True)

The folder is one that `reprise export --to timm` wrote.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import Tensor, nn

from reprise.config.errors import BackboneError
from reprise.networks.backbone import build_backbone
from reprise.networks.small.small_resnet import SmallResNet
from reprise.networks.small.small_vit import SmallViT
from reprise.networks.torchvision_schemas import ensure_torchvision_imports

ensure_torchvision_imports()
from timm.models import build_model_with_cfg, register_model  # noqa: E402 - timm asks torchvision for its operators

NAME = "reprise_backbone"
_BUILT_FROM = ("architecture", "stem", "img_size", "in_chans", "options")  # what config.json states
_OF_TIMM = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "pretrained_model_args")  # given to every network


def _mean_of_places(network: nn.Module, found: Tensor, pre_logits: bool = False) -> Tensor:
    """Pool as SmallResNet does: (B, D, h, w) -> (B, D)."""
    return found.mean(dim=(2, 3))


def _of_tokens(network: SmallViT, found: Tensor, pre_logits: bool = False) -> Tensor:
    """Pool as SmallViT does: (B, 1 + N, D) -> (B, D)."""
    return network.pooled(found)


def has_head(network: nn.Module) -> bool:
    """Tell whether features are a pooling of those of places, as transformers computes them."""
    return isinstance(network, SmallResNet | SmallViT) or hasattr(network, "forward_head")


class _Built(nn.Module):
    """A network of ours in the form that timm's builder makes: arguments in, module out."""

    def __new__(cls, **arguments: Any) -> nn.Module:
        """Build the network itself, so that its weights have the names that they have in Reprise."""
        network = build_backbone(
            str(arguments["architecture"]),
            int(arguments["in_chans"]),
            int(arguments["img_size"]),
            str(arguments["stem"]),
            dict(arguments["options"]),
        )
        network.num_classes = 0
        # Here and not in the networks, which every training is made with and only exports need it of.
        if isinstance(network, SmallResNet | SmallViT):
            head = _of_tokens if isinstance(network, SmallViT) else _mean_of_places
            network.forward_head = MethodType(head, network)
        return network


@register_model
def reprise_backbone(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """Build a backbone of Reprise from `architecture`, `stem`, `img_size`, `in_chans` and `options`.

    Raises:
        BackboneError: one of these is missing, or there is an argument that would change nothing.
    """
    if classes := arguments.pop("num_classes", 0):
        raise BackboneError(
            "a backbone of Reprise has no classifier",
            where=f"timm.create_model, {NAME}",
            found=f"num_classes={classes}",
            fix="Leave it out, and put a layer behind the backbone: torch.nn.Linear(backbone.num_features, classes).",
        )
    unknown = [name for name in arguments if name not in (*_BUILT_FROM, *_OF_TIMM)]
    missing = [name for name in _BUILT_FROM if name not in arguments]
    if unknown or missing:
        raise BackboneError(
            "a backbone of Reprise is built from the arguments that config.json states, and from no others",
            where=f"timm.create_model, {NAME}",
            found=", ".join([*unknown, *(f"no {name}" for name in missing)]),
            fix='Call timm.create_model("local-dir:FOLDER", pretrained=True) without further arguments.',
        )
    network: nn.Module = build_model_with_cfg(_Built, NAME, pretrained, pretrained_strict=True, **arguments)
    return network
