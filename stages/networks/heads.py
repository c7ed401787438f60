"""Heads: what stands on a backbone during training and is left out afterwards."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class Projector(nn.Module):
    """A multilayer perceptron with batch normalisation and ReLU between its layers (Chen et al. 2020, section 2).

    Args:
        widths: input, hidden..., output; [64, 128, 128, 64] has three layers. The last layer is linear.

    `taps` gives the activations after each hidden layer: P2, P3 of G-SimCLR's evaluation.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        self.hidden = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU(inplace=True))
            for a, b in pairwise(widths[:-1])
        )
        self.output = nn.Linear(widths[-2], widths[-1])

    def forward(self, h: Tensor) -> Tensor:
        """(B, widths[0]) -> (B, widths[-1])."""
        for layer in self.hidden:
            h = layer(h)
        return self.output(h)

    def taps(self, h: Tensor) -> dict[str, Tensor]:
        """{"projector1": (B, widths[1]), "projector2": ...}: after each hidden layer, activated."""
        found = {}
        for number, layer in enumerate(self.hidden, start=1):
            h = layer(h)
            found[f"projector{number}"] = h
        return found
