"""The masks that a run's method reads: one beside each training image in the shards."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from reprise.artifacts.facts.sides import Sides
from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.layout import SHARDS, run_facts
from reprise.artifacts.tables.columns import Keys
from reprise.config.errors import TrainingError
from reprise.config.tables import AnyRun
from reprise.media.image.sides import decode_side


class Masks:
    """Masks of the n training images, decoded when they are asked for.

    Args:
        names: of the facts.
        keys: (n,) of the images.
        sides: the members of the shards.
        memory_bytes: decoded masks are kept up to this size; it decides nothing but the speed.
    """

    def __init__(self, names: Sequence[str], keys: Keys, sides: Sides, memory_bytes: int) -> None:
        self.names, self._keys, self._sides, self._left = tuple(names), keys.tolist(), sides, memory_bytes
        self._kept: dict[tuple[int, str], np.ndarray] = {}

    def read(self, row: int, name: str) -> np.ndarray:
        """Return the mask of one image as it is stored: (h, w) uint8, 0 for background.

        Raises:
            ShardError: it cannot be read.
            ImageRefused: it is no mask.
        """
        kept = self._kept.get((row, name))
        if kept is not None:
            return kept
        key = self._keys[row]
        mask = decode_side("mask", self._sides.read(key, name), f"{key}.{name}")
        if mask.nbytes <= self._left:
            self._kept[row, name], self._left = mask, self._left - mask.nbytes
        return mask

    def digest(self) -> str:
        """Hash all masks by the hashes of their encoded bytes."""
        found = hashlib.sha256()
        for name in self.names:
            found.update(f"{name}\n{''.join(self._sides.sha256(key, name) for key in self._keys)}\n".encode())
        return found.hexdigest()


def read_run_masks(row: AnyRun, reads: Sequence[str], keys: Keys, memory_bytes: int) -> Masks | None:
    """Find the masks among what the method declares in `reads`; `read_run_facts` refuses what a run may not see.

    Args:
        row: of the run.
        reads: names of facts.
        keys: (n,) of the training images.
        memory_bytes: see `Masks`.

    Returns:
        None for a method that reads none.

    Raises:
        TrainingError: an image has no mask.
    """
    if not reads:
        return None
    kinds = {fact.name: fact.kind for fact in read_facts(run_facts(row.name)).declared}
    names = [name for name in reads if kinds.get(name) == "mask"]
    if not names:
        return None
    sides = Sides(SHARDS)
    for name in names:
        if without := sum(not sides.has(key, name) for key in keys.tolist()):
            raise TrainingError(
                f"the method reads the mask '{name}' of each training image, and some have none",
                where=f"runs: {row.name}",
                found=f"{without:,} of {len(keys):,} images without one",
                fix="Let the source give a mask of every image: an empty one is all 0.",
            )
    return Masks(names, keys, sides, memory_bytes)
