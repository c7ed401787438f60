"""What the caches tell on the terminal: sizes for a person, and one line a decision."""

from __future__ import annotations

import os
import sys


def bytes_in_words(count: int) -> str:
    """Write bytes for a person: "1.5 GiB"."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1024:.1f} KiB"


def say(sentence: str) -> None:
    """Print a sentence about a cache to stderr, unless REPRISE_QUIET is 1."""
    if os.environ.get("REPRISE_QUIET") != "1":
        print(f"cache: {sentence}", file=sys.stderr, flush=True)
