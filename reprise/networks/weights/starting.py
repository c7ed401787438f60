"""Load converted weights into a network that is to be trained, or into a frozen teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.networks.assemble import Mismatch, load_arrays
from reprise.networks.backbone import build_backbone
from reprise.networks.weights.fit import fit_weights

_FIX = "Set image.channels to 3, and choose image.size so that the network can be built for it as it was trained."


def load_start(network: nn.Module, weights: Mapping[str, np.ndarray], where: str) -> list[str]:
    """Load converted weights into a network.

    Args:
        network: of the same architecture; a transformer may have been built for another side.
        weights: as the stage `models` writes them.
        where: the run, for messages.

    Returns:
        What was changed for it, a sentence each: position embeddings of another grid.

    Raises:
        BackboneError: the weights do not fit.
    """
    fitted = fit_weights(network.state_dict(), weights, where, _FIX, int(getattr(network, "num_prefix_tokens", 1)))
    load_arrays(network, fitted.arrays, Mismatch("the weights do not fit the backbone", where, _FIX))
    return fitted.sentences()


class Teacher(nn.Module):
    """A frozen network that takes the views of a student: it undoes their normalisation and applies its own.

    Args:
        network: the teacher.
        mean, std: of the student's views, per channel on the 0..1 scale.
        own_mean, own_std: those that the teacher was trained with.
        size: side in pixels to which views are scaled for the teacher; 0 leaves them as they are.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        own_mean: Sequence[float],
        own_std: Sequence[float],
        size: int = 0,
    ) -> None:
        super().__init__()
        self.network, self.size = network, size
        student_mean, student_std, mine_mean, mine_std = (torch.tensor(v) for v in (mean, std, own_mean, own_std))
        self.register_buffer("scale", (student_std / mine_std).view(1, -1, 1, 1))
        self.register_buffer("shift", ((student_mean - mine_mean) / mine_std).view(1, -1, 1, 1))
        self.num_features = int(network.num_features)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode, whatever the method around it does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, views: Tensor) -> Tensor:
        """Compute the features of views that were normalised for the student: (B, C, S, S) -> (B, d), float32."""
        x = views.float() * self.scale + self.shift
        if self.size and self.size != x.shape[-1]:
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        return self.network(x).float()


def load_teacher(
    config: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    own_size: bool,
) -> Teacher:
    """Build a frozen teacher for views of `size` pixels.

    Args:
        config: config.json of the teacher.
        weights: as the stage `models` writes them.
        size: side of the views in pixels.
        mean, std: of the views.
        own_size: whether views are scaled to the side that the teacher was trained at.

    Raises:
        BackboneError: the weights do not fit.
    """
    side = int(config["input_size"]) if own_size else size
    network = build_backbone(config["architecture"], config["channels"], side, config["stem"], dict(config["options"]))
    load_start(network, weights, f"the teacher, {config['architecture']}")
    return Teacher(network, mean, std, config["mean"], config["std"], side)
