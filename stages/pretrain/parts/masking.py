"""Random masks over the patches of a transformer, the same number in every image, from torch's generator."""

from __future__ import annotations

import torch
from torch import Tensor


def random_mask(images: int, patches: int, share: float) -> Tensor:
    """Choose patches to hide: (images, patches) bool, True for hidden.

    Every row hides round(share * patches), but at least one, and leaves at least one visible.
    """
    count = min(max(1, round(share * patches)), max(1, patches - 1))
    return torch.rand(images, patches).argsort(dim=1).argsort(dim=1) < count


def visible(tokens: Tensor, hidden: Tensor) -> Tensor:
    """Keep the tokens that are not hidden, in their order: (B, N, D), (B, N) bool -> (B, M, D), M in every row."""
    count = int((~hidden[0]).sum())
    places = hidden.to(torch.int8).argsort(dim=1, stable=True)[:, :count]
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))
