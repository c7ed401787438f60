"""Symmetric InfoNCE of images and their texts: each finds the other among all of the batch.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, figure 3.

Shape legend: b pairs of this rank, B of all ranks, d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reprise.objectives.precision import full_precision
from reprise.runtime.world import ALONE, World


@full_precision
def image_text_loss(images: Tensor, texts: Tensor, scale: Tensor, world: World = ALONE) -> Tensor:
    """Average the cross entropies of both directions.

    Args:
        images, texts: (b, d), row i of both belongs together; not normalised.
        scale: a positive scalar by which cosines are multiplied, 1 / temperature; it may be learned.
        world: the processes that hold the batch together.

    Returns:
        The mean over images and texts of -log softmax at the own partner; 0 for a batch of one.
    """
    images, texts = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    start, count = world.place(images)
    own = torch.arange(start, start + len(images), device=images.device)
    to_texts_bB = scale * images @ world.gather(texts).T
    to_images_bB = scale * texts @ world.gather(images).T
    loss = (F.cross_entropy(to_texts_bB, own) + F.cross_entropy(to_images_bB, own)) / 2
    return loss * world.weight(len(images), count)
