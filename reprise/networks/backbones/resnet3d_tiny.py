"""`resnet3d_tiny`: a residual network for small volumes with one basic block a stage, 225,000 weights.

Source: Hara, Kataoka, Satoh, "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?", CVPR 2018, in
the size of `resnet_tiny`.

Checked by: tests/reprise/networks/test_volume_networks.py; docs/measurements/volumes.md.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from reprise.config.params import StrictModel, meaning
from reprise.media.lookup import VOLUME
from reprise.networks.backbone import Backbone
from reprise.networks.small.resnet3d import ResNet3d


class ResNet3dTinyParams(StrictModel):
    """Options of `resnet3d_tiny`."""

    width: Annotated[
        int,
        Field(ge=1, le=4096),
        meaning(
            "The first stage has this many channels, the next two and the features twice and four times as many.",
            "channels",
        ),
    ] = 16


class ResNet3dTiny(Backbone):
    """A stem of 3 x 3 x 3 with stride 2, and three stages of one block; `stem` changes nothing."""

    Params = ResNet3dTinyParams
    modalities: ClassVar[tuple[str, ...]] = (VOLUME,)

    def build(self, channels: int, size: int, stem: str) -> nn.Module:
        """Build the network: (B, C, S, S, S) -> (B, 4 width), 64 numbers by default, for volumes of any side."""
        return ResNet3d((1, 1, 1), channels, self.params.width, kernel=3, stride=2, pooled=False)
