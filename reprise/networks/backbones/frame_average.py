"""`frame_average`: another backbone, averaged over quarter turns, or over these and mirror images.

A turned image has the same features up to rounding, before any training. It takes four (`c4`) or eight (`d4`) passes of
the inner network. Images whose class depends on their orientation, such as 6 and 9, can no longer be told apart by it.

Source: Puny, Atzmon, Ben-Hamu, Misra, Grover, Smith, Lipman, "Frame Averaging for Invariant and Equivariant Network
Design", ICLR 2022, arXiv 2110.03336; see reprise/networks/frame_average.py.

params.yaml names backbones without options, so a run gets `c4` over the network of `resnet_tiny`. A plug-in in
plugins/backbones that returns `FrameAverage(build_backbone(...), "d4")` averages any other network.

Checked by: tests/reprise/networks/test_frame_average.py; docs/measurements/factors.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from torch import nn

from reprise.config.params import StrictModel, meaning
from reprise.networks.backbone import Backbone, resolve_stem
from reprise.networks.frame_average import FrameAverage
from reprise.networks.small.small_resnet import MADE_FOR, SmallResNet
from reprise.networks.small.small_vit import SmallViT
from reprise.networks.symmetry_groups import GroupName

BLOCKS = {"resnet_tiny": 1, "resnet20": 3}  # in a stage


class FrameAverageParams(StrictModel):
    """Options of `frame_average`."""

    group: Annotated[
        GroupName, meaning("Features do not change with quarter turns (`c4`), or with these and mirror images (`d4`).")
    ] = "c4"
    inner: Annotated[
        Literal["resnet_tiny", "resnet20", "vit_mini"],
        meaning("The network of this backbone is averaged, as it is by default."),
    ] = "resnet_tiny"


class FrameAverageBackbone(Backbone):
    """The inner network with no weights besides its own.

    It is built here and not looked up by name, so that a change of its code makes the runs of this backbone anew.
    """

    Params = FrameAverageParams
    params: FrameAverageParams

    def build(self, channels: int, size: int, stem: str) -> nn.Module:
        """Build the inner network and average it: (B, C, S, S) -> (B, num_features of the inner one)."""
        return FrameAverage(self.inner(channels, size, stem), self.params.group)

    def inner(self, channels: int, size: int, stem: str) -> nn.Module:
        """Build the network that is averaged."""
        if self.params.inner in BLOCKS:
            return SmallResNet(BLOCKS[self.params.inner], channels)
        return SmallViT(channels, size, 4 if resolve_stem(stem, size) == "small" else 16, 96, 4, 3, "token")

    def made_for(self) -> dict[str, Any]:
        """Return the size and scale of CIFAR's images."""
        return MADE_FOR
