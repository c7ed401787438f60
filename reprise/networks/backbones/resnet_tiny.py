"""`resnet_tiny`: a residual network for small images with one basic block a stage, 77,000 weights.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2, which has three
blocks or more a stage.

Checked by: tests/reprise/networks/test_networks.py; docs/measurements/results.md.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from reprise.networks.backbone import Backbone
from reprise.networks.small.small_resnet import MADE_FOR, SmallResNet, SmallResNetParams


class ResNetTiny(Backbone):
    """One block a stage; a 3x3 stem without pooling, so that `stem` changes nothing."""

    Params = SmallResNetParams

    def build(self, channels: int, size: int, stem: str) -> nn.Module:
        """Build the network: (B, C, S, S) -> (B, 4 width), 64 numbers by default, for images of any side."""
        return SmallResNet(1, channels, self.params.width)

    def made_for(self) -> dict[str, Any]:
        """Return the size and scale of CIFAR's images."""
        return MADE_FOR
