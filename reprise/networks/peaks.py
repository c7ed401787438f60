"""Peaks of units: how strongly each channel of a backbone's map responds at most, and where in the image.

Shape legend: B images, C channels, S side in pixels, D units (the width of a place), h x w places.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprise.config.errors import BackboneError
from reprise.networks.local_features import Places, local_features, places_of

UNITS = "units"  # the tap
NUMBERS = 3  # of a unit: its largest response, and the row and the column where it lies


def peaks(places: Tensor, layout: Places, side: int) -> Tensor:
    """Find the largest response of each unit: (B, D, h, w) -> (B, 3 D): value, row and column of each unit in turn.

    Args:
        places: local features; of equal responses the first one counts, in reading order.
        layout: where the places lie.
        side: S. Rows and columns are shares of it, from 0 at the top and left to 1.
    """
    value, index = places.flatten(2).max(dim=2)
    columns = places.shape[3]
    first, step = layout.centre(0, side) / side, layout.stride / side
    left = (side - layout.stride * (columns - 1)) / 2 / side
    row, column = first + step * (index // columns), left + step * (index % columns)
    return torch.stack([value.float(), row.float(), column.float()], dim=2).flatten(1)


class WithPeaks(nn.Module):
    """A frozen backbone with its heads that also returns the tap `units`; the backbone passes every image twice.

    Args:
        network: (B, C, S, S) -> features by tap, with the backbone as its part `backbone`.
        channels, size: of the images.
        where: names the run in the message.

    Raises:
        BackboneError: the backbone has no map.
    """

    def __init__(self, network: nn.Module, channels: int, size: int, where: str) -> None:
        super().__init__()
        layout = places_of(network.backbone, channels, size)
        if layout is None:
            raise BackboneError(
                "units have places only in a backbone with local features",
                where=f"embed.units, {where}",
                found="a backbone without a map",
                fix="Set embed.units to false, or train another backbone, such as a ResNet or a vision transformer.",
            )
        self.network, self.layout = network, layout

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the features at every tap, and the peaks."""
        taps = self.network(x)
        places = local_features(self.network.backbone, x)
        assert places is not None, "the constructor has refused backbones without a map"
        return {**taps, UNITS: peaks(places, self.layout, x.shape[-1])}
