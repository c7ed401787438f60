"""What the blocks of one stage share in a worker's process: a network, a prepared bank. One of each kind is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_kept: dict[str, dict[str, tuple[Any, Any]]] = {}  # by the stage: kind -> key and value; empty outside of workers


def begin(stage: str) -> bool:
    """Keep things for this stage from now on, and nothing of another; return whether it is another than before."""
    if stage in _kept:
        return False
    _kept.clear()
    _kept[stage] = {}
    return True


def forget() -> None:
    """Drop everything, and keep nothing from now on."""
    _kept.clear()


def newest(key: tuple[Any, ...], make: Callable[[], T]) -> T:
    """Return what was made under this key, or make it now in place of what had the same kind.

    Args:
        key: its first entry is the kind. Outside of a Dask worker nothing is kept.
        make: makes it.
    """
    for things in _kept.values():
        if key[0] not in things or things[key[0]][0] != key:
            things.pop(key[0], None)  # before the new one is made: both need not fit into memory
            things[key[0]] = key, make()
        found: T = things[key[0]][1]
        return found
    return make()
