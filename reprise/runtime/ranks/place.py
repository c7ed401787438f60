"""Where this process stands among those of one training, as torchrun's variables say it. It never imports torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

STORE = "REPRISE_RANK_STORE"  # the file through which processes meet that Reprise started itself


@dataclass(frozen=True)
class Place:
    """The place of one process.

    Attributes:
        rank: from 0.
        size: processes.
        local: rank among those of this machine, which chooses the GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0


def place_of(variables: Mapping[str, str]) -> Place | None:
    """Return the place that torchrun, or the first rank, has given to this process; None where none was given."""
    names = ("RANK", "WORLD_SIZE")
    if not all(variables.get(name, "").isdigit() for name in names):
        return None
    if STORE not in variables and "MASTER_ADDR" not in variables:
        return None
    rank, size = (int(variables[name]) for name in names)
    local = variables.get("LOCAL_RANK", "")
    return Place(rank, size, int(local) if local.isdigit() else rank)


def follows() -> bool:
    """Tell whether this process is another than the first rank of its training."""
    place = place_of(os.environ)
    return place is not None and place.rank > 0
