"""`resnet3d_18`: the residual network of 18 layers with three-dimensional convolutions, 33 million weights.

Source: Hara, Kataoka, Satoh, "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?", CVPR 2018.

Deviation: the three axes are treated alike, since none of them is time: the first convolution and the pooling have
stride 2 along each. The stem `small` has neither.

Checked by: tests/reprise/networks/test_volume_networks.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from reprise.config.params import StrictModel, meaning
from reprise.media.lookup import VOLUME
from reprise.networks.backbone import Backbone
from reprise.networks.small.resnet3d import ResNet3d

SMALL_SIDE = 32  # values: up to this side the stem `auto` is `small`


class ResNet3d18Params(StrictModel):
    """Options of `resnet3d_18`."""

    width: Annotated[
        int,
        Field(ge=1, le=1024),
        meaning("The first stage has this many channels, and the features eight times as many.", "channels"),
    ] = 64


class ResNet3d18(Backbone):
    """Four stages of two blocks."""

    Params = ResNet3d18Params
    modalities: ClassVar[tuple[str, ...]] = (VOLUME,)

    def build(self, channels: int, size: int, stem: str) -> nn.Module:
        """Build the network: (B, C, S, S, S) -> (B, 8 width), 512 numbers by default, for volumes of any side."""
        small = size <= SMALL_SIDE if stem == "auto" else stem == "small"
        kernel, stride = (3, 1) if small else (7, 2)
        return ResNet3d((2, 2, 2, 2), channels, self.params.width, kernel, stride, pooled=not small)
