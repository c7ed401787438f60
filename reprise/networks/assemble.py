"""Rebuild a trained network from its configuration and arrays: frozen, with features at every tap."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprise.config.errors import BackboneError
from reprise.networks.backbone import build_backbone
from reprise.networks.heads import Projector


class TappedBackbone(nn.Module):
    """A frozen backbone with its heads.

    `forward` returns {"backbone": (B, d), "projector1": (B, h), ...}.
    """

    def __init__(self, backbone: nn.Module, projector: Projector | None) -> None:
        super().__init__()
        self.backbone, self.projector = backbone, projector
        self.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the features at every tap of (B, C, S, S) normalised images."""
        h = self.backbone(x)
        return {"backbone": h, **(self.projector.taps(h) if self.projector is not None else {})}


def assemble(
    config: dict[str, Any], weights: dict[str, np.ndarray], heads: dict[str, np.ndarray], where: str
) -> TappedBackbone:
    """Build the network of `config` and load arrays into it strictly.

    Raises:
        BackboneError: keys or shapes do not fit, or a stored value is not finite.
    """
    backbone = build_backbone(
        config["architecture"], config["channels"], config["input_size"], config["stem"], config["options"]
    )
    projector = Projector(config["heads"]["projector"]) if "projector" in config["heads"] else None
    network = TappedBackbone(backbone, projector)
    arrays = {f"backbone.{k}": v for k, v in weights.items()} | {
        k: v for k, v in heads.items() if k.startswith("projector.")
    }
    state = {k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise BackboneError(
            "the weights do not fit their configuration",
            where=where,
            found=" ".join(str(error).split())[:600],
            fix="Restore the folder whole: `dvc checkout`.",
        ) from error
    return network.to(memory_format=torch.channels_last)
