"""Views of volumes, a batch at a time in torch: what is drawn is drawn on the CPU, and applied where the network is.

A box is cut and scaled by one matrix product along each axis, with the antialiased triangle of images. Volumes of one
size are cut together, others one by one. All other changes see the whole batch.

Shape legend: B volumes, D H W their sides, S side of a view, C channels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reprise.reading.decoded import Decoded
from reprise.runtime.seeds import torch_rng
from reprise.training.change import Frame
from stages.pretrain.views.batched import resize_weights
from stages.pretrain.views.draws import ViewDraws, draw_view, named, of_images
from stages.pretrain.views.made import Views
from stages.pretrain.views.settings import ViewSettings


class VolumeViews:
    """Makes the views of a batch of volumes; see `MakeViews`.

    Args:
        decoded: the training volumes.
        plan: what each view is made of.
        seed: of the run; view v of a batch is a pure function of (seed, epoch, batch, v).
        device: where views are made.
        keep_drawn: whether what was drawn is wanted beside the views.
    """

    def __init__(
        self, decoded: Decoded, plan: list[ViewSettings], seed: int, device: str, keep_drawn: bool = False
    ) -> None:
        self.decoded, self.plan, self.seed, self.device, self.keep_drawn = decoded, plan, seed, device, keep_drawn

    def __call__(self, rows: np.ndarray, epoch: int, number: int, own: np.ndarray | None = None) -> Views:
        """Make the views of one batch, or of some of its volumes."""
        depth, height, width = torch.from_numpy(self.decoded.sizes[rows]).float().T
        frame = Frame(len(rows), height, width, 0, 0, depth)
        rngs = [torch_rng(self.seed, "views", epoch, number, v) for v in range(len(self.plan))]
        every = [draw_view(frame, settings, rng) for settings, rng in zip(self.plan, rngs, strict=True)]
        volumes = self.read(rows if own is None else rows[own])
        draws = of_images(every, own)
        views = [made_view(volumes, s, drawn, self.device) for s, drawn in zip(self.plan, draws, strict=True)]
        return Views(views, named(every, self.plan) if self.keep_drawn else [])

    def read(self, rows: np.ndarray) -> Tensor | list[Tensor]:
        """Read volumes: (B, D, H, W, C) uint8 where they have one size, else a list of (D, H, W, C)."""
        if self.decoded.images is not None:
            return torch.from_numpy(self.decoded.images[rows])
        found = [torch.from_numpy(np.array(self.decoded.image(int(row)))) for row in rows]
        return found if len({volume.shape for volume in found}) != 1 else torch.stack(found)


def made_view(volumes: Tensor | list[Tensor], settings: ViewSettings, drawn: ViewDraws, device: str = "cpu") -> Tensor:
    """Make the view that was drawn of each volume.

    Args:
        volumes: from `VolumeViews.read`.
        settings: of the view.
        drawn: from `draw_view`.
        device: where the view is made.

    Returns:
        (B, C, S, S, S) float32, normalised.
    """
    boxes = drawn.boxes.to(device)
    if isinstance(volumes, Tensor):
        x = cut(volumes.to(device), boxes, settings.size)
    else:
        x = torch.cat([cut(v[None].to(device), b[None], settings.size) for v, b in zip(volumes, boxes, strict=True)])
    for change, own in zip(settings.after_cut, drawn.changes, strict=True):
        if own is not None:
            x = change.apply(x, {name: value.to(device) for name, value in change.prepared(own).items()})
    mean, std = (torch.tensor(v, device=x.device).view(1, -1, 1, 1, 1) for v in (settings.mean, settings.std))
    return x.sub(mean).div_(std).contiguous(memory_format=torch.channels_last_3d)


def cut(volumes: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut and scale every volume: (B, D, H, W, C) uint8, boxes (B, 6) -> (B, C, S, S, S) in [0, 1].

    Axes are scaled one after the other, from the first: each leaves less for the next.
    """
    x = volumes.movedim(-1, 1).float().div_(255.0)
    for axis in range(3):
        weights = resize_weights(boxes[:, axis], boxes[:, 3 + axis], x.shape[2 + axis], size)
        moved = x.movedim(2 + axis, -1)  # (B, C, two other axes, the one that is scaled)
        flat = moved.reshape(len(x), -1, moved.shape[-1])
        scaled = torch.bmm(flat, weights.transpose(1, 2)).view(*moved.shape[:-1], size)
        x = scaled.movedim(-1, 2 + axis)
    return x.contiguous()
