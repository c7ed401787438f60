"""A first-in, first-out memory of vectors (MoCo's dictionary, NNCLR's support set, SwAV's queue).

The vectors are buffers, so a checkpoint holds them. Slots that were never filled are not handed out: the published
codes start from random vectors instead, which are noise among the negatives until the queue has gone round once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.pretrain.method import Method


def queue_length(method: Method, asked: int) -> int:
    """Return the length of a method's queue: no more than there are training images, with a note where that is less."""
    images = method.context.images
    return method.limited("queue", asked, images, "no more vectors differ than there are training images")


class Queue(nn.Module):
    """At most `length` vectors of `width` numbers, the newest ones."""

    entries: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("entries", torch.zeros(length, width))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return int(self.filled)

    @property
    def full(self) -> bool:
        """Tell whether every slot was filled once."""
        return len(self) == len(self.entries)

    def stored(self) -> Tensor:
        """Return a copy of its vectors, (len, width), in no particular order and without gradient."""
        return self.entries[: len(self)].clone()

    @torch.no_grad()
    def push(self, vectors: Tensor) -> None:
        """Put (B, width) vectors in the place of the oldest; of more than fit, the last ones stay."""
        length = len(self.entries)
        kept = vectors.detach()[-length:].to(self.entries.dtype)
        slots = (torch.arange(len(kept), device=self.entries.device) + self.pointer) % length
        self.entries.index_copy_(0, slots, kept)
        self.pointer.copy_((self.pointer + len(kept)) % length)
        self.filled.add_(len(kept)).clamp_(max=length)
