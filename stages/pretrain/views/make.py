"""Which path makes the views: whole batches in torch for small images of one size, image by image for all others."""

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
from stages.pretrain.views.per_image import PerImageViews
from stages.pretrain.views.settings import ViewSettings, by_view

BATCHED_SIDE = 64  # pixels: up to here images of one size take the batched path
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
        if self.resident is None:
            pixels = torch.from_numpy(self.images[rows])
        else:
            pixels = self.resident[torch.from_numpy(rows).to(self.resident.device, non_blocking=True)]
        return [
            batched_view(pixels, settings, torch_rng(self.seed, "views", epoch, number, v), self.device)
            for v, settings in enumerate(self.plan)
        ]


class SingleViews:
    """Views of images of any size, one image after the other on several threads."""

    def __init__(self, decoded: Decoded, plan: list[ViewSettings], seed: int, threads: int) -> None:
        self.plan, self.seed = plan, seed
        self.made = {settings: PerImageViews(decoded.image, settings, threads) for settings in plan}

    def __call__(self, rows: np.ndarray, epoch: int, number: int) -> list[Tensor]:
        """Make the views of one batch."""
        return [self.made[settings](rows, self.seed, "views", epoch, number, v) for v, settings in enumerate(self.plan)]


def on_device(images: np.ndarray, device: str) -> Tensor | None:
    """Put all training images into the GPU's memory where they take at most a quarter of what is free; else None."""
    if device != "cuda" or images.nbytes > RESIDENT_SHARE * torch.cuda.mem_get_info()[0]:
        return None
    return torch.from_numpy(np.array(images)).to(device)
