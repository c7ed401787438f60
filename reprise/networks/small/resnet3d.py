"""Residual networks for volumes: basic blocks of three-dimensional convolutions.

Source: Hara, Kataoka, Satoh, "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?", CVPR 2018,
whose basic block is that of He et al. 2016 with cubes for kernels. Deviation: projection shortcuts (option B).

Shapes: x (B, C, D, H, W) -> features (B, width of the last stage).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class BasicBlock3d(nn.Module):
    """Two convolutions of 3 x 3 x 3 and a shortcut."""

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = nn.Conv3d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.act = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv3d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm3d(planes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inplanes, D, H, W) -> (B, planes, D / stride, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act(self.bn1(self.conv1(x)))
        return self.act(self.bn2(self.conv2(x)) + shortcut)


class ResNet3d(nn.Module):
    """A residual network of several stages; each has twice the width of the one before and half its sides.

    Args:
        blocks: basic blocks in each stage.
        channels: C, channels of the volumes.
        width: channels of the first stage.
        kernel, stride: of the first convolution.
        pooled: whether a pooling of 3 with stride 2 follows it.
    """

    def __init__(
        self, blocks: Sequence[int], channels: int, width: int, kernel: int, stride: int, pooled: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(3, 2, 1) if pooled else nn.Identity()
        self.stages = len(blocks)
        inplanes = width
        for stage, count in enumerate(blocks):
            planes = width << stage
            layers = []
            for block in range(count):
                layers.append(BasicBlock3d(inplanes, planes, 2 if stage > 0 and block == 0 else 1))
                inplanes = planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.num_features = inplanes
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Average the features of all places: (B, C, D, H, W) -> (B, num_features)."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return torch.mean(x, dim=(2, 3, 4))
