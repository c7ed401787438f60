"""What is drawn at random for the views of a batch, before any pixel is touched: on the CPU, from one generator a view.

So a view has the same parameters wherever it is made, and the host may run ahead of a GPU.

Shape legend: B images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reprise.training.change import Drawn, Frame
from stages.pretrain.views.settings import ViewSettings


@dataclass(frozen=True)
class ViewDraws:
    """Everything that is drawn for one view of B images.

    Attributes:
        boxes: (B, 4) float: top, left, height, width in pixels of the part that is seen; of volumes (B, 6).
        changes: of each change after the cut; None where it cannot happen.
        cut: what else a cut drew.
    """

    boxes: Tensor
    changes: tuple[Drawn | None, ...]
    cut: Drawn

    def by_name(self, settings: ViewSettings) -> dict[str, Drawn]:
        """Return what was drawn by the name of each change."""
        pairs = zip(settings.after_cut, self.changes, strict=True)
        found = {change.params.name: drawn for change, drawn in pairs if drawn is not None}
        return {settings.cut.params.name if settings.cut else "whole": self.cut, **found}


def of_images(draws: list[ViewDraws], own: np.ndarray | None) -> list[ViewDraws]:
    """Return what was drawn for some images of a batch.

    Args:
        draws: of each view of the whole batch.
        own: (b,) positions in the batch; None for all.
    """
    if own is None:
        return draws
    places = torch.from_numpy(own)

    def chosen(drawn: Drawn) -> Drawn:
        return {name: value[places] for name, value in drawn.items()}

    return [
        ViewDraws(
            drawn.boxes[places],
            tuple(None if change is None else chosen(change) for change in drawn.changes),
            chosen(drawn.cut),
        )
        for drawn in draws
    ]


def draw_view(frame: Frame, settings: ViewSettings, rng: torch.Generator) -> ViewDraws:
    """Draw one view.

    Args:
        frame: the images; its size and channels are those of the settings.
        settings: of the view.
        rng: a CPU generator.
    """
    frame = replace(frame, size=settings.size, channels=settings.channels)
    cut = settings.cut.draw(frame, rng) if settings.cut else {"boxes": whole(frame)}
    changes = tuple(change.draw(frame, rng) if change.happens(frame) else None for change in settings.after_cut)
    return ViewDraws(cut["boxes"], changes, cut)


def draw_views(
    count: int, height: int | Tensor, width: int | Tensor, plan: list[ViewSettings], rngs: list[torch.Generator]
) -> list[ViewDraws]:
    """Draw every view of a plan, each from its own generator; see `draw_view`."""
    frame = frame_of(count, height, width)
    return [draw_view(frame, settings, rng) for settings, rng in zip(plan, rngs, strict=True)]


def named(draws: list[ViewDraws], plan: list[ViewSettings]) -> list[dict[str, Drawn]]:
    """Return what was drawn for each view by the name of each change, as methods get to see it."""
    return [drawn.by_name(settings) for drawn, settings in zip(draws, plan, strict=True)]


def frame_of(count: int, height: int | Tensor, width: int | Tensor) -> Frame:
    """Describe images, whatever views are made of them."""
    return Frame(count, height, width, 0, 0)


def whole(frame: Frame) -> Tensor:
    """Return the boxes that show all of each image: (B, 4) float, of volumes (B, 6)."""
    sides = [torch.as_tensor(side, dtype=torch.float32).expand(frame.count) for side in frame.sides]
    return torch.stack([*[torch.zeros(frame.count)] * len(sides), *sides], dim=1)
