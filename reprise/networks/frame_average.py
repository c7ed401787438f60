"""A network averaged over the symmetries of the square: exactly invariant features, exactly equivariant places.

Source: Puny, Atzmon, Ben-Hamu, Misra, Grover, Smith, Lipman, "Frame Averaging for Invariant and Equivariant Network
Design", ICLR 2022. Authors' code: omri1348/Frame-Averaging (for point sets).

Idea: with a finite group G, the whole group is a frame of every image, and

    features(x) = mean over g in G of  network(g x)
    places(x)   = mean over g in G of  g^-1 places of network(g x)

so features(g x) = features(x), and places(g x) = g places(x), whatever the network is. It has no further weights and
costs |G| passes.

Deviations: the paper's frames hold few elements, found from the input itself: the principal axes of a set of points.
Images have no such frame without interpolation, and it jumps where two axes are equally long
(reprise/measures/geometry/frames.py), so the whole group is taken here.

Shape legend: B images, C channels, S side, D width, h x w places, |G| elements.

Checked by: tests/reprise/networks/test_frame_average.py; docs/measurements/factors.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprise.networks.local_features import local_features
from reprise.networks.symmetry_groups import GroupName, elements_of


class FrameAverage(nn.Module):
    """A network whose features no symmetry of the group changes.

    Args:
        inner: maps (B, C, S, S) to (B, num_features).
        group: whose elements move the images.
    """

    def __init__(self, inner: nn.Module, group: GroupName) -> None:
        super().__init__()
        self.inner, self.elements = inner, elements_of(group)
        self.num_features = int(inner.num_features)
        if hasattr(inner, "local_stride"):
            self.local_stride = inner.local_stride

    def forward(self, x: Tensor) -> Tensor:
        """Average the features of all moved images: (B, C, S, S) -> (B, D)."""
        return self.inner(self.moved(x)).unflatten(0, (len(self.elements), x.shape[0])).mean(dim=0)

    def forward_features(self, x: Tensor) -> Tensor | None:
        """Average the places of all moved images, moved back: (B, C, S, S) -> (B, D, h, w).

        Returns:
            None where the inner network has no places on a square grid.
        """
        found = local_features(self.inner, self.moved(x))
        if found is None:
            return None
        parts = zip(self.elements, found.chunk(len(self.elements)), strict=True)
        return torch.stack([element.inverse().moved(part) for element, part in parts]).mean(dim=0)

    def moved(self, x: Tensor) -> Tensor:
        """Return every image moved by every element: (|G| B, C, S, S), all images moved by the first one first."""
        return torch.cat([element.moved(x) for element in self.elements])
