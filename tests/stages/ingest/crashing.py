"""A stand-in for a decoder that crashes or hangs; a module of its own, since worker processes import it."""

from __future__ import annotations

import os
import signal
import time

from stages.ingest.candidates.examine import Finding, Limits, examine


def crash_on_marker(chunk: list[tuple[str, bytes]], limits: Limits) -> list[Finding]:
    """Look at a chunk, but die like a C library on an image that is `crash`, and hang on one that is `hang`."""
    if any(reference == b"crash" for _, reference in chunk):
        os.kill(os.getpid(), signal.SIGSEGV)
    if any(reference == b"hang" for _, reference in chunk):
        time.sleep(600)
    return [examine(name, reference, limits) for name, reference in chunk]
