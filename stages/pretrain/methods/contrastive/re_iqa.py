"""`re_iqa`: how good a picture is, whatever it shows; distortions of one image are told apart.

Source: Saha, Mishra, Bovik, "Re-IQA: Unsupervised Learning for Image Quality Assessment in the Wild", CVPR 2023, the
quality-aware encoder. Authors' code: avinabsaha/ReIQA.

Checked by: tests/stages/pretrain/changes/test_views_as_files.py (overlap, negatives);
docs/measurements/views.md.

Idea: a chunk holds an image and distorted copies of it. Two crops of one copy are positives; they overlap by 10 to
30 %, so that they share quality and hardly content. The other copies of the same image are hard negatives: same
content, other quality. Momentum contrast with a queue does the rest. The features are meant to be used
beside those of an encoder of content (`moco_v2`).

Deviations: the release draws negatives from the queue alone, as it stood before the step, so copies of one image are
never contrasted, although its swapping of crops is made for that; here the other copies of a chunk are negatives. All
images of a batch share the kinds and levels of their copies. Offsets of the two crops are whole pixels, all as likely.
There are no copies of half the resolution. Crops have half of the image's side, since images are small (paper: 160
pixels of larger ones), 5 copies in place of 11, 13 kinds of distortions in place of 26, and the run's own optimiser.

Shape legend: B images, K copies and the image itself, N = B K, p side of a crop, d projection.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import PlainHead
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context
from stages.pretrain.params import HiddenWidth, OutputWidth, Temperature
from stages.pretrain.parts.pixels.distortions import KINDS, LEVELS, distorted
from stages.pretrain.parts.queue import Queue, queue_length
from stages.pretrain.parts.teacher import LastMomentum, Momentum, TeacherMethod, TeacherParams
from stages.pretrain.views.settings import ViewSettings

OVERLAP = (0.1, 0.3)  # of the two crops, as shares of one crop's area


class ReIQAParams(TeacherParams):
    """Parameters of `re_iqa`."""

    copies: Annotated[int, Field(ge=1, le=32), meaning("Each image has this many distorted copies.", "copies")] = 5
    crop: Annotated[
        float, Field(ge=0.5, le=0.75), meaning("The side of the two crops is this share of the image's side.")
    ] = 0.55
    temperature: Temperature = 0.2
    queue: Annotated[
        int, Field(ge=1, le=10_000_000), meaning("This many keys of earlier chunks serve as negatives.", "keys")
    ] = 65536
    momentum: Momentum = 0.999
    momentum_end: LastMomentum = 0.999
    hidden: HiddenWidth = 256
    output: OutputWidth = 128


@full_precision
def chunk_loss(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Compute the mean of -log softmax of the positive among the chunk's keys and the queue's.

    Args:
        queries, keys: (B, K, d); each query's key is the positive, the other K - 1 of its image are negatives.
        queue: (Q, d) keys of earlier chunks, of length 1.
        temperature: divides similarities.
    """
    queries, keys = F.normalize(queries, dim=2), F.normalize(keys, dim=2)
    inside = queries @ keys.transpose(1, 2)  # (B, K, K), positives on the diagonal
    logits = torch.cat([inside, queries @ queue.T], dim=2) / temperature
    target = torch.arange(inside.shape[1], device=logits.device).repeat(len(logits))
    return F.cross_entropy(logits.flatten(0, 1), target)


def offsets(size: int, side: int) -> Tensor:
    """List the offsets (down, across) in pixels between two crops whose overlap is as it should be: (n, 2) int64."""
    shift = torch.arange(size - side + 1)
    down, across = torch.meshgrid(shift, shift, indexing="ij")
    shared = (side - down) * (side - across) / side**2
    fits = (shared >= OVERLAP[0]) & (shared <= OVERLAP[1])
    return torch.stack([down[fits], across[fits]], dim=1)


def crop_places(count: int, size: int, side: int) -> tuple[Tensor, Tensor]:
    """Draw the places of two overlapping crops: (count, 2) top and left of each, int64."""
    known = offsets(size, side)
    shift = known[torch.randint(len(known), (count,))]
    room = size - side - shift
    low = (torch.rand(count, 2) * (room + 1)).long()  # of the crop that lies nearer to 0 along each axis
    nearer = torch.rand(count, 2) < 0.5
    first, second = torch.where(nearer, low, low + shift), torch.where(nearer, low + shift, low)
    return first, second


def cropped(x: Tensor, places: Tensor, side: int) -> Tensor:
    """Cut a square of each image: (N, C, S, S), (N, 2) -> (N, C, p, p)."""
    steps = torch.arange(side, device=x.device)
    rows, columns = places[:, :1] + steps, places[:, 1:] + steps
    image = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


class ReIQA(TeacherMethod):
    """Chunks of distorted copies, contrasted with each other and with a queue."""

    Params = ReIQAParams
    views = 1
    views_by_image = True
    params: ReIQAParams

    def __init__(self, backbone: nn.Module, params: ReIQAParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.head = PlainHead([backbone.num_features, params.hidden, params.output])
        self.queue = Queue(queue_length(self, params.queue), params.output)
        self.side = round(context.size * params.crop)
        self.add_teacher("backbone", "head")
        for name, numbers in (("mean", context.mean), ("std", context.std)):
            self.register_buffer(name, torch.tensor(numbers).view(1, -1, 1, 1), persistent=False)

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """Plan the whole image as it is: the copies are made in the step."""
        return [replace(settings, changes=())]

    def crops_of_an_image(self, settings: ViewSettings) -> int:
        """Count two crops of the image and of each copy."""
        return 2 * (1 + self.params.copies)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Make chunks, and two crops of each copy; what is random comes from the step's seed."""
        copies = self.copies(batch.views[0] * self.std + self.mean, batch)  # (b, K, C, S, S)
        count, kinds = batch.images, copies.shape[1]
        flat = ((copies.flatten(0, 1) - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        places = crop_places(count, flat.shape[-1], self.side)  # the same for all copies of an image
        first, second = (batch.own(p).repeat_interleave(kinds, 0).to(flat.device) for p in places)
        swapped = batch.own(torch.rand(count * kinds, 1) < 0.5).to(flat.device)  # so that no side is always the query's
        first, second = torch.where(swapped, second, first), torch.where(swapped, first, second)
        features = self.backbone(cropped(flat, first, self.side))
        queries, keys = self.head(features), self.taught(cropped(flat, second, self.side))
        loss = chunk_loss(
            queries.view(count, kinds, -1), keys.view(count, kinds, -1), self.queue.stored(), self.params.temperature
        )
        self.queue.push(F.normalize(keys.float(), dim=1))
        return loss, {"features": features, "projections": queries}

    def copies(self, x: Tensor, batch: Batch) -> Tensor:
        """Return each image of this process and its copies: (b, C, S, S) in [0, 1] -> (b, K, C, S, S)."""
        x = x.clamp(0.0, 1.0)
        kinds = torch.randperm(len(KINDS))[: self.params.copies].tolist()
        kinds += torch.randint(len(KINDS), (self.params.copies - len(kinds),)).tolist()
        levels = torch.randint(LEVELS, (len(kinds),)).tolist()
        noise = batch.own(torch.randn(batch.images, *x.shape[1:])).to(x.device, x.dtype)
        return torch.stack([x, *(distorted(x, *chosen, noise) for chosen in zip(kinds, levels, strict=True))], dim=1)
