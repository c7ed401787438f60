"""Seeds: every draw is a pure function of names and integers, so a resumed run draws what it would have drawn."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def mix(*parts: int | str) -> int:
    """A 63-bit seed from a path of names and numbers: mix(seed, "views", epoch, batch)."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def numpy_rng(*parts: int | str) -> np.random.Generator:
    """A NumPy generator for that path."""
    return np.random.default_rng(mix(*parts))


def torch_rng(*parts: int | str) -> torch.Generator:
    """A CPU torch generator for that path; draws on the CPU are the same whatever the model's device."""
    import torch

    return torch.Generator().manual_seed(mix(*parts))


def seed_torch(*parts: int | str) -> None:
    """Seed torch's global generator (initialisation, dropout)."""
    import torch

    torch.manual_seed(mix(*parts))
