"""Heads: networks on top of a backbone that take the loss during training and are left out afterwards."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PROJECTOR, ASSIGNER, CODES = "projector", "assigner", "codes"  # saved heads that are read again, by name
TAPPED = (PROJECTOR, ASSIGNER, CODES)


def _hidden(inputs: int, outputs: int) -> nn.Sequential:
    """Build a hidden layer of a projector."""
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True))


class Projector(nn.Module):
    """A multilayer perceptron with batch normalisation and ReLU between its layers (Chen et al. 2020, section 2).

    Args:
        widths: input, hidden..., output; [64, 128, 128, 64] has three layers. The last layer is linear.

    `taps` gives the activations after each hidden layer: P2 and P1 of G-SimCLR's evaluation.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        self.hidden = nn.ModuleList(_hidden(a, b) for a, b in pairwise(widths[:-1]))
        self.output = nn.Linear(widths[-2], widths[-1])

    def forward(self, h: Tensor) -> Tensor:
        """(B, widths[0]) -> (B, widths[-1])."""
        for layer in self.hidden:
            h = layer(h)
        return self.output(h)

    def taps(self, h: Tensor) -> dict[str, Tensor]:
        """Return the activations after each hidden layer: {"projector1": (B, widths[1]), "projector2": ...}."""
        found = {}
        for number, layer in enumerate(self.hidden, start=1):
            h = layer(h)
            found[f"projector{number}"] = h
        return found


class Assigner(nn.Module):
    """Memberships in K clusters that a training learns: the softmax of a last linear layer.

    Args:
        widths: input, hidden..., K; [64, 10] is the linear layer alone. Hidden layers are those of a projector.
        scale: the rows of the last layer are directions, which begin with this length and see vectors of length one:
            logits are cosines times the length. None: a linear layer as any other.

    A head of directions leaves out the ReLU of its last hidden layer, because vectors without negative numbers all lie
    on one side. Which kind it is says a tensor of its state (`unit`): whoever loads the head knows nothing of it but
    its widths and its weights.
    """

    unit: Tensor

    def __init__(self, widths: list[int], scale: float | None = None) -> None:
        super().__init__()
        self.widths = list(widths)
        layers = [_hidden(a, b) for a, b in pairwise(widths[:-1])]
        self.hidden = nn.Sequential(*layers[:-1], *[layer[:-1] for layer in layers[-1:]])
        self.output = nn.Linear(widths[-2], widths[-1])
        self.register_buffer("unit", torch.tensor(scale is not None))
        if scale is not None:
            with torch.no_grad():
                self.output.weight.copy_(scale * F.normalize(torch.randn_like(self.output.weight), dim=1))
                self.output.bias.zero_()

    def forward(self, h: Tensor) -> Tensor:
        """Compute the logits of the memberships: (B, widths[0]) -> (B, K)."""
        h = self.hidden(h)
        plain = F.relu(h) if len(self.widths) > 2 else h
        return self.output(torch.where(self.unit, F.normalize(h, dim=1), plain))

    def memberships(self, h: Tensor) -> Tensor:
        """Compute the memberships: (B, widths[0]) -> (B, K), at least 0; rows sum to 1 in float32 at least."""
        logits = self(h)
        return torch.softmax(logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits, dim=1)


class PlainHead(nn.Module):
    """A multilayer perceptron without normalisation: MoCo v2's and W-MSE's heads, and DINO's with GELU.

    Args:
        widths: input, hidden..., output. The last layer is linear.
    """

    def __init__(self, widths: list[int], activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), activation()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, h: Tensor) -> Tensor:
        """(B, widths[0]) -> (B, widths[-1])."""
        return self.layers(h)


class Classifier(nn.Linear):
    """A linear classifier that begins at zero, so that its first gradients do not disturb the network below it.

    Args:
        features: d.
        classes: K.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes)
        self.widths = [features, classes]
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class Prototypes(nn.Module):
    """Cosine similarity to K learned directions, which are of length one.

    The same function as a weight-normalised linear layer with its gain fixed at 1 (DINO) and as prototypes that are
    normalised before each step (SwAV); here the normalisation is part of the forward pass.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(count, width), dim=1))

    def forward(self, z: Tensor) -> Tensor:
        """Compare vectors with the prototypes: (B, width) of any length -> (B, K) in [-1, 1], at least float32.

        Losses divide these cosines by temperatures of 0.02 to 0.1. As a bfloat16 product they would be off by up to
        0.003, which gives 2 to 4 % of the images another prototype.
        """
        with torch.autocast(z.device.type, enabled=False):
            z = z.float() if z.dtype in (torch.bfloat16, torch.float16) else z
            return F.linear(F.normalize(z, dim=1), F.normalize(self.weight, dim=1))
