"""Handle signals for a while."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what people and systems end a program with


@contextmanager
def handling(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Install a handler of signals inside the `with` block, and restore the previous handlers afterwards.

    Only the main thread may call this.
    """
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def signal_name(status: int) -> str | None:
    """Return the name of the signal that ended a command, given its exit status (128 + n), or None."""
    try:
        return signal.Signals(status - 128).name
    except ValueError:
        return None
