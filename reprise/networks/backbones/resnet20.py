"""`resnet20`: the residual network of 20 layers for CIFAR, three basic blocks a stage, 270,000 weights.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.

Checked by: tests/reprise/networks/test_networks.py; docs/measurements/results.md; docs/explanation/g-simclr.md.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from reprise.networks.backbone import Backbone
from reprise.networks.small.small_resnet import MADE_FOR, SmallResNet, SmallResNetParams


class ResNet20(Backbone):
    """Three blocks a stage; a 3x3 stem without pooling, so that `stem` changes nothing."""

    Params = SmallResNetParams

    def build(self, channels: int, size: int, stem: str) -> nn.Module:
        """Build the network: (B, C, S, S) -> (B, 4 width), 64 numbers by default, for images of any side."""
        return SmallResNet(3, channels, self.params.width)

    def made_for(self) -> dict[str, Any]:
        """Return the size and scale of CIFAR's images."""
        return MADE_FOR
