"""Handle signals for a while."""

from __future__ import annotations

import signal
import threading
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


def signals_without_handler() -> list[int]:
    """Return those of STOP_SIGNALS that this process leaves to Python or ignores."""
    default = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
    return [number for number in STOP_SIGNALS if signal.getsignal(number) in default]


@contextmanager
def stopping_on_signals(stop: threading.Event, numbers: Iterable[int] = STOP_SIGNALS) -> Iterator[None]:
    """Set an event when a signal arrives inside the `with` block, and raise its exception at the end.

    In another thread than the main one, signals act as before.

    Args:
        stop: the event.
        numbers: of the signals.

    Raises:
        KeyboardInterrupt: SIGINT was received.
        SystemExit: another signal was received.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def record(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        stop.set()

    with handling(numbers, record):
        yield
    if received:
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])


def signal_name(status: int) -> str | None:
    """Return the name of the signal that ended a command, given its exit status (128 + n), or None."""
    try:
        return signal.Signals(status - 128).name
    except ValueError:
        return None
