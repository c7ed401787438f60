"""Masks that follow their images through the changes of views: the same cut, mirrored and warped in the same way.

Each pixel of a moved mask is the nearest one of the mask, so no number of an object arises that was not there.

Shape legend: B images of a batch, b those of this process, S side of a view in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from reprise.config.errors import TrainingError
from reprise.training.change import Drawn
from stages.pretrain.views.settings import ViewSettings, by_view

ReadMask = Callable[[int, str], np.ndarray]  # row of an image, name of the fact -> (h, w) uint8


class CarriedMasks:
    """Makes the masks of a batch that belong to its views.

    Args:
        names: of the facts.
        read: reads a mask as it is stored.
        plan: what each view of an image is made of.
        sizes: (n, 2) height and width of the images of which views are made; what was drawn is in their pixels.
    """

    def __init__(self, names: Sequence[str], read: ReadMask, plan: list[ViewSettings], sizes: np.ndarray) -> None:
        self.names, self.read, self.plan, self.sizes = tuple(names), read, by_view(plan), sizes

    def __call__(
        self, rows: np.ndarray, drawn: Sequence[dict[str, Drawn]], own: np.ndarray | None = None
    ) -> dict[str, list[Tensor]]:
        """Move the masks of a batch.

        Args:
            rows: (B,) positions of the images of the batch.
            drawn: what was drawn for each view of all B, by the name of each change.
            own: (b,) positions in the batch whose masks are wanted; None for all.

        Returns:
            fact -> for each view (b, S, S) uint8.
        """
        places = np.arange(len(rows)) if own is None else own
        moved: dict[str, list[Tensor]] = {}
        for name in self.names:
            masks = [self.read(int(row), name) for row in rows[places]]
            views = zip(self.plan, drawn, strict=True)
            moved[name] = [carried(masks, self.sizes[rows[places]], s, _of(one, places)) for s, one in views]
        return moved


def carried(masks: list[np.ndarray], sizes: np.ndarray, settings: ViewSettings, drawn: dict[str, Drawn]) -> Tensor:
    """Move one mask of each image as one of its views was made: (b, S, S) uint8.

    Args:
        masks: (h, w) uint8 each, of the whole images.
        sizes: (b, 2) height and width of the images that were cut, in the pixels of the boxes.
        settings: of the view.
        drawn: what was drawn, by the name of each change.
    """
    boxes = drawn[settings.cut.params.name if settings.cut else "whole"]["boxes"].numpy()
    cut = [nearest_crop(*one, settings.size) for one in zip(masks, boxes, sizes, strict=True)]
    x = torch.from_numpy(np.stack(cut))[:, None]
    for change in settings.after_cut:
        happened = drawn.get(change.params.name)
        if happened is None or change.keeps_places:
            continue
        chosen = happened["applied"].nonzero()[:, 0]
        if len(chosen):
            x[chosen] = change.carried(x[chosen], {k: v[chosen] for k, v in happened.items() if k != "applied"})
    return x[:, 0]


def nearest_crop(mask: np.ndarray, box: np.ndarray, size: np.ndarray, side: int) -> np.ndarray:
    """Cut a mask and resize it, each pixel from the one that its centre falls on.

    Args:
        mask: (h, w) uint8.
        box: top, left, height, width in pixels of an image of this `size`, its height and width.
        side: S.
    """
    taken = []
    for axis in (0, 1):
        share = mask.shape[axis] / size[axis]
        where = (box[axis] + (np.arange(side) + 0.5) * box[2 + axis] / side) * share
        taken.append(np.clip(np.floor(where).astype(np.int64), 0, mask.shape[axis] - 1))
    return mask[taken[0]][:, taken[1]]


def refuse_unmoved(names: Sequence[str], plan: list[ViewSettings], where: str) -> None:
    """Refuse changes that do not say what becomes of masks.

    Args:
        names: of the masks that the method reads.
        plan: what each view of an image is made of.
        where: the run, for the message.

    Raises:
        TrainingError: naming the changes.
    """
    if lost := sorted({c.params.name for one in plan for c in one.changes if not type(c).says_what_masks_do()}):
        raise TrainingError(
            f"the method reads the mask '{names[0]}', and a change does not say what becomes of masks",
            where=where,
            found=", ".join(lost),
            fix="Define `carried` in its class, or `keeps_places = True` where it moves no pixels, or leave it out.",
        )


def _of(drawn: dict[str, Drawn], places: np.ndarray) -> dict[str, Drawn]:
    """Choose what was drawn for some images."""
    rows = torch.from_numpy(places)
    return {change: {name: value[rows] for name, value in own.items()} for change, own in drawn.items()}
