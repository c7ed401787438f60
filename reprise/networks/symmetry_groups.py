"""Finite groups of the square, and how their elements move images, maps and kernels.

`c4` holds the turns by 0, 90, 180 and 270 degrees, `d4` these and the four mirror images. On a grid of pixels they
move every pixel to a pixel, so that nothing is interpolated. An element (turns, mirrored) mirrors left to right first,
where it mirrors, and then turns to the left.

Shape legend: ... any leading dimensions, S side.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

GroupName = Literal["c4", "d4"]


class Element(NamedTuple):
    """A symmetry of the square: mirrored left to right or not, then turned to the left by so many quarters."""

    turns: int
    mirrored: bool

    def moved(self, x: Tensor) -> Tensor:
        """Move what lies on a square grid: (..., S, S) -> (..., S, S)."""
        return torch.rot90(x.flip(-1) if self.mirrored else x, self.turns, (-2, -1))

    def inverse(self) -> Element:
        """Return the element that undoes this one; a mirrored one undoes itself."""
        return self if self.mirrored else Element(-self.turns % 4, False)

    def after(self, first: Element) -> Element:
        """Return the element that does `first` and then this one."""
        turns = self.turns + (-first.turns if self.mirrored else first.turns)
        return Element(turns % 4, self.mirrored != first.mirrored)


def elements_of(group: GroupName) -> tuple[Element, ...]:
    """Return the elements of a group, the one that moves nothing first."""
    return tuple(Element(turns, mirrored) for mirrored in (False, True)[: 1 + (group == "d4")] for turns in range(4))
