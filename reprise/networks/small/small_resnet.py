"""Residual networks for small images, with timm's key names.

He et al. 2016, section 4.2 (CIFAR): a 3x3 stem without pooling, three stages of widths 16, 32, 64, global
average pooling. The backbones `resnet20` and `resnet_tiny` have three blocks a stage, as in the paper, and one.
Deviation: projection shortcuts (option B) where the paper uses zero padding (option A).

Shapes: x (B, C, H, W) -> features (B, 64, H/4, W/4) -> (B, 64) with the default width of 16.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import StrictModel, meaning

MADE_FOR: dict[str, Any] = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}  # CIFAR's images


class SmallResNetParams(StrictModel):
    """Options of the small residual networks."""

    width: Annotated[
        int,
        Field(ge=1, le=16384),
        meaning(
            "The first stage has this many channels, the next two and the features twice and four times as many.",
            "channels",
        ),
    ] = 16


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; key names and arithmetic are those of timm's BasicBlock.

    Not timm's own class: importing timm takes two seconds of every stage that builds a network (measured), and a
    test holds the two against each other.
    """

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.act = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inplanes, H, W) -> (B, planes, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act(self.bn1(self.conv1(x)))
        return self.act(self.bn2(self.conv2(x)) + shortcut)


class SmallResNet(nn.Module):
    """A residual network of three stages.

    Args:
        blocks: basic blocks in each stage.
        channels: C, channels of the images.
        width: channels of the first stage; each of the next two has twice as many as the one before.
    """

    def __init__(self, blocks: int, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.num_features = widths[-1]
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act1 = nn.ReLU(inplace=True)
        inplanes = widths[0]
        for stage, planes in enumerate(widths):
            layers = []
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(BasicBlock(inplanes, planes, stride))
                inplanes = planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute local features: (B, C, H, W) -> (B, 4 width, H / 4, W / 4)."""
        x = self.act1(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Average the local features over all places: (B, C, H, W) -> (B, 4 width)."""
        return torch.mean(self.forward_features(x), dim=(2, 3))
