"""Bounds on what hostile input may cost a test: memory and time of this process, put back afterwards."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _out_of_time(signum: int, frame: object) -> None:
    raise TimeoutError("this input takes longer than it may")


@contextmanager
def at_most(megabytes: int, seconds: float) -> Iterator[None]:
    """Let what runs in the `with` block take no more memory than this on top, and no more time on the processor."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, _out_of_time)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (megabytes << 20), before[1]))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGPROF, handler)
