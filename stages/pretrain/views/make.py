"""Which path makes the views.

On a CPU whole batches in torch suit small images of one size, and image by image suits all others: at 224 pixels it is
six to twelve times faster there. A GPU makes whole batches at every size, from decoded images that lie in its memory or
come in time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from reprise.reading.decoded import Decoded
from reprise.runtime.device import Compute
from reprise.runtime.seeds import torch_rng
from stages.pretrain.views.batched import batched_view
from stages.pretrain.views.device import to_device, views_on_device
from stages.pretrain.views.per_image import PerImageViews
from stages.pretrain.views.settings import ViewSettings, by_view
from stages.pretrain.views.staged import StagedViews

BATCHED_SIDE = 64  # pixels: up to here images of one size take the batched path on a CPU
RESIDENT_SHARE = 0.25  # of a GPU's free memory, for the training images; the rest is the network's
MakeViews = Callable[[np.ndarray, int, int], list[Tensor]]  # (image rows, epoch, batch) -> V tensors (B, C, S, S)


def view_maker(decoded: Decoded, plan: list[ViewSettings], seed: int, compute: Compute) -> MakeViews:
    """Choose the path for these images.

    Args:
        decoded: the training images.
        plan: what each view of an image is made of.
        seed: of the run; view v of a batch is a pure function of (seed, epoch, batch, v).
        compute: where views are made, and by how many threads.
    """
    plan, images = by_view(plan), decoded.images
    if images is not None and max(images.shape[1:3]) <= BATCHED_SIDE:
        return BatchedViews(images, plan, seed, compute.device)
    if compute.device == "cuda":
        if images is not None and fits(images):
            return BatchedViews(images, plan, seed, compute.device)
        return StagedViews(decoded, plan, seed, compute)
    return SingleViews(decoded, plan, seed, compute.threads)


class BatchedViews:
    """Views of images of one size, a whole batch at a time."""

    def __init__(self, images: np.ndarray, plan: list[ViewSettings], seed: int, device: str) -> None:
        self.images, self.plan, self.seed, self.device = images, plan, seed, device

    @cached_property
    def resident(self) -> Tensor | None:
        """All images in the GPU's memory, put there when the first views are made; None on a CPU."""
        return on_device(self.images, self.device)

    def __call__(self, rows: np.ndarray, epoch: int, number: int) -> list[Tensor]:
        """Make the views of one batch."""
        rngs = [torch_rng(self.seed, "views", epoch, number, v) for v in range(len(self.plan))]
        if self.device == "cpu":
            pixels = torch.from_numpy(self.images[rows])
            return [batched_view(pixels, s, rng) for s, rng in zip(self.plan, rngs, strict=True)]
        if self.resident is None:
            pixels = to_device(torch.from_numpy(self.images[rows]), self.device)
        else:
            pixels = self.resident[to_device(torch.from_numpy(rows), self.device)]
        return views_on_device(pixels, None, self.plan, rngs)


class SingleViews:
    """Views of images of any size, one image after the other on several threads."""

    def __init__(self, decoded: Decoded, plan: list[ViewSettings], seed: int, threads: int) -> None:
        self.plan, self.seed = plan, seed
        self.made = {settings: PerImageViews(decoded.image, settings, threads) for settings in plan}

    def __call__(self, rows: np.ndarray, epoch: int, number: int) -> list[Tensor]:
        """Make the views of one batch."""
        return [self.made[settings](rows, self.seed, "views", epoch, number, v) for v, settings in enumerate(self.plan)]


def fits(images: np.ndarray) -> bool:
    """Tell whether all training images take at most a quarter of a GPU's free memory."""
    return images.nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info()[0]


def on_device(images: np.ndarray, device: str) -> Tensor | None:
    """Put all training images into the GPU's memory where they fit; else None."""
    if device != "cuda" or not fits(images):
        return None
    return torch.from_numpy(np.array(images)).to(device)
