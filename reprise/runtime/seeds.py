"""Seeds: every draw is a pure function of names and integers, so a resumed run draws the same as an unbroken one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def mix(*parts: int | str) -> int:
    """Mix a path of names and numbers into a 63-bit seed: mix(seed, "views", epoch, batch)."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1  # torch takes signed seeds


def numpy_rng(*parts: int | str) -> np.random.Generator:
    """Make a NumPy generator for such a path."""
    return np.random.default_rng(mix(*parts))


def torch_rng(*parts: int | str) -> torch.Generator:
    """Make a CPU generator of torch for such a path; draws on the CPU do not depend on the model's device."""
    import torch

    return torch.Generator().manual_seed(mix(*parts))


def seed_torch(*parts: int | str) -> None:
    """Seed torch's global generator (initialisation, dropout) for such a path."""
    import torch

    torch.manual_seed(mix(*parts))
