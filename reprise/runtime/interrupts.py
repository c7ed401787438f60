"""End a process soon after Ctrl-C or SIGTERM, also in the middle of a long call into C.

Python raises KeyboardInterrupt between two of its own instructions. A product of matrices, a decomposition, threads
that are waited for, or a library that catches every exception may hold it back for minutes. So the signal itself wakes
a thread (`signal.set_wakeup_fd`), which ends the process if it is still there a second later. That is as safe as
`kill -9`, which every stage survives: what is written gets its name only when it is whole.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from reprise.storage.running import fall_silent, withdraw

GRACE_SECONDS = 1.0
_SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it
_said = threading.Event()
_patient: list[object] = []  # who is ending other processes


@contextmanager
def ending_soon(sentences: Mapping[int, str]) -> Iterator[None]:
    """End this process with status 128 + n a second after signal n, if it has not ended by itself.

    The signal counts if it arrives inside the `with` block; the process is ended outside as well, where a thread that
    is waited for at the exit may hold it. In another thread than the main one, and where the system has no thread left,
    signals act as Python lets them.

    Args:
        sentences: what is then printed on stderr, by signal; "" prints nothing, and other signals are not looked at.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    watch = threading.Thread(target=_watch, args=(reading, dict(sentences)), name="interrupts", daemon=True)
    try:
        watch.start()
    except RuntimeError:
        os.close(reading)
        os.close(writing)
        yield
        return
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)  # the thread reads what is still in the pipe, and ends


def say(sentence: str) -> None:
    """Print the sentence that ends this process, once. It may be called in a signal handler, where print may not."""
    if not _said.is_set():
        _said.set()
        fall_silent()
        with suppress(OSError):
            os.write(2, sentence.encode() + b"\n" if sentence else b"")


def end_while_loading(number: int, frame: FrameType | None, sentence: str) -> None:
    """End this process at once, with status 128 + n after signal n, if it is just loading a module.

    An exception would abort it: C++ code that sets a library up (torch's does) does not expect any.

    Args:
        number: of the signal.
        frame: where the signal arrived.
        sentence: is printed on stderr.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _leave(number, sentence)
        frame = frame.f_back


def end_now(status: int, sentence: str) -> NoReturn:
    """End this process at once from any thread, because another process that it waits for is gone.

    Args:
        status: of the process.
        sentence: is printed on stderr.
    """
    _end_with(status, sentence)


@contextmanager
def patience() -> Iterator[None]:
    """Let the process live on inside the `with` block, because it waits for the end of others that it has signalled."""
    token = object()
    _patient.append(token)
    try:
        yield
    finally:
        _patient.remove(token)


def _watch(reading: int, sentences: dict[int, str]) -> None:
    with open(reading, "rb", buffering=0) as signals:
        while received := signals.read(64):
            for number in received:
                if number in sentences:
                    _end(number, sentences[number])


def _end(number: int, sentence: str) -> None:
    fall_silent()
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.05)
        if _patient:
            deadline = time.monotonic() + GRACE_SECONDS
    _leave(number, sentence)


def _leave(number: int, sentence: str) -> NoReturn:
    _end_with(128 + number, sentence)


def _end_with(status: int, sentence: str) -> NoReturn:
    if os.isatty(2):
        os.write(2, _SHOW_CURSOR)
    say(sentence)
    withdraw()
    os._exit(status)
