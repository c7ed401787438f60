"""Which path makes the views.

On a CPU whole batches in torch suit small images of one size, and image by image suits all others: at 224 pixels it is
six to twelve times faster there. A GPU makes whole batches at every size, from decoded images that lie in its memory or
come in time. Volumes are made in whole batches everywhere.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from reprise.reading.decoded import Decoded
from reprise.runtime.device import Compute
from reprise.runtime.seeds import torch_rng
from stages.pretrain.views.batched import made_view
from stages.pretrain.views.device import to_device, views_on_device
from stages.pretrain.views.draws import draw_views, named, of_images
from stages.pretrain.views.made import Views
from stages.pretrain.views.per_image import PerImageViews
from stages.pretrain.views.settings import ViewSettings, by_view
from stages.pretrain.views.staged import StagedViews
from stages.pretrain.views.volumes import VolumeViews

VOLUME_AXES = 3  # sides of a volume
BATCHED_SIDE = 64  # pixels: up to here images of one size take the batched path on a CPU
RESIDENT_SHARE = 0.25  # of a GPU's free memory, for the training images; the rest is the network's
Own = np.ndarray | None  # positions in the batch whose views are made, in rising order; None for all


class MakeViews(Protocol):
    """Makes the views of a batch. What is drawn for an image is the same whichever others views are made of."""

    def __call__(self, rows: np.ndarray, epoch: int, number: int, own: Own = None) -> Views:
        """Make the views of images of one batch.

        Args:
            rows: (B,) positions of all images of the batch.
            epoch, number: of the batch.
            own: of which of them.
        """
        ...


def view_maker(
    decoded: Decoded, plan: list[ViewSettings], seed: int, compute: Compute, keep_drawn: bool = False
) -> MakeViews:
    """Choose the path for these images.

    Args:
        decoded: the training images.
        plan: what each view of an image is made of.
        seed: of the run; view v of a batch is a pure function of (seed, epoch, batch, v).
        compute: where views are made, and by how many threads.
        keep_drawn: whether what was drawn is wanted beside the views.
    """
    plan = by_view(plan)
    if decoded.sizes.shape[1] == VOLUME_AXES:
        return VolumeViews(decoded, plan, seed, compute.device, keep_drawn)
    images = decoded.images
    if images is not None and max(images.shape[1:3]) <= BATCHED_SIDE:
        return BatchedViews(images, plan, seed, compute.device, keep_drawn)
    if compute.device == "cuda":
        if images is not None and fits(images):
            return BatchedViews(images, plan, seed, compute.device, keep_drawn)
        return StagedViews(decoded, plan, seed, compute, keep_drawn)
    return SingleViews(decoded, plan, seed, compute.threads, keep_drawn)


class BatchedViews:
    """Views of images of one size, a whole batch at a time."""

    def __init__(
        self, images: np.ndarray, plan: list[ViewSettings], seed: int, device: str, keep_drawn: bool = False
    ) -> None:
        self.images, self.plan, self.seed, self.device, self.keep_drawn = images, plan, seed, device, keep_drawn

    @cached_property
    def resident(self) -> Tensor | None:
        """All images in the GPU's memory, put there when the first views are made; None on a CPU."""
        return on_device(self.images, self.device)

    def __call__(self, rows: np.ndarray, epoch: int, number: int, own: Own = None) -> Views:
        """Make the views of one batch, or of some of its images."""
        rngs = [torch_rng(self.seed, "views", epoch, number, v) for v in range(len(self.plan))]
        every = draw_views(len(rows), self.images.shape[1], self.images.shape[2], self.plan, rngs)
        draws, rows = of_images(every, own), rows if own is None else rows[own]
        if self.device == "cpu":
            pixels = torch.from_numpy(self.images[rows])
            views = [made_view(pixels, s, drawn) for s, drawn in zip(self.plan, draws, strict=True)]
        else:
            views = views_on_device(self.pixels(rows), self.plan, draws)
        return Views(views, named(every, self.plan) if self.keep_drawn else [])

    def pixels(self, rows: np.ndarray) -> Tensor:
        """Bring the images of one batch to the GPU, where they are not there already."""
        if self.resident is None:
            return to_device(torch.from_numpy(self.images[rows]), self.device)
        return self.resident[to_device(torch.from_numpy(rows), self.device)]


class SingleViews:
    """Views of images of any size, one image after the other on several threads."""

    def __init__(
        self, decoded: Decoded, plan: list[ViewSettings], seed: int, threads: int, keep_drawn: bool = False
    ) -> None:
        self.plan, self.seed, self.keep_drawn = plan, seed, keep_drawn
        self.made = {settings: PerImageViews(decoded.image, settings, threads) for settings in plan}

    def __call__(self, rows: np.ndarray, epoch: int, number: int, own: Own = None) -> Views:
        """Make the views of one batch, or of some of its images."""
        made = [
            self.made[settings].with_draws(rows, self.seed, "views", epoch, number, v, keep=self.keep_drawn, own=own)
            for v, settings in enumerate(self.plan)
        ]
        return Views([view for view, _ in made], [drawn for _, drawn in made if self.keep_drawn])


def fits(images: np.ndarray) -> bool:
    """Tell whether all training images take at most a quarter of a GPU's free memory."""
    return images.nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info()[0]


def on_device(images: np.ndarray, device: str) -> Tensor | None:
    """Put all training images into the GPU's memory where they fit; else None."""
    if device != "cuda" or not fits(images):
        return None
    return torch.from_numpy(np.array(images)).to(device)
