"""What a stage has opened beside itself is closed at its end. It loads nothing, so every process may import it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_waiting: list[Callable[[], None]] = []


def close_at_end(call: Callable[[], None]) -> None:
    """Let the end of the stage call a function."""
    _waiting.append(call)


@contextmanager
def closed_afterwards() -> Iterator[None]:
    """Close at the end of the block, also by an exception, what was opened in it."""
    try:
        yield
    finally:
        while _waiting:
            _waiting.pop()()
