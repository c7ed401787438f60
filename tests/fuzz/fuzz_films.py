"""Mutated films: each is taken in or refused with a reason, in bounded time; nothing else may happen.

`python -m tests.fuzz.fuzz_films --mutations 2000 --seed 0` prints a summary as JSON and exits with 1 on a finding. A
mutation that ends this process is a finding as well: in ingest, films are decoded in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from stages.ingest.films.take import Choice, Task, take_frames
from tests.films import LOSSLESS, scenes, write_film

SLOW = 5.0  # seconds for one film; the seeds take milliseconds
REASONS = {
    *("", "empty", "not_a_film", "no_pictures", "unsupported_codec", "truncated", "undecodable"),
    *("too_many_pixels", "out_of_memory"),
}
SEEDS: dict[str, dict[str, Any]] = {
    "a.mp4": {"codec": "libx264"},
    "a.mov": {"codec": "png", "pixels": "rgb24"},
    "a.mkv": LOSSLESS,
    "a.webm": {"codec": "libvpx-vp9"},
    "a.avi": {"codec": "mpeg4"},
    "a.ts": {"codec": "libx264"},
    "a.mpg": {"codec": "mpeg2video", "options": {"b": "2M"}},
    "a.flv": {"codec": "flv"},
    "a.wmv": {"codec": "wmv2"},
    "a.y4m": {"codec": "wrapped_avframe"},
}
_CHOICE = Choice(max_pixels=1_000_000, threshold=0.5, max_side=32)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change, remove or insert some bytes, half of them near the beginning."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 10, 40))):
        place = rng.randrange(min(len(changed), 600) if rng.random() < 0.5 else len(changed))
        kind = rng.randrange(4)
        if kind == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place] = rng.choice((0, 127, 128, 255))
        elif kind == 2:
            del changed[place : place + rng.randrange(1, 9)]
        else:
            changed[place:place] = rng.randbytes(4)
    return bytes(changed)


def run(mutations: int, seed: int) -> dict[str, Any]:
    """Take mutated films, and count what becomes of them; `findings` lists what should not happen."""
    counts: Counter[str] = Counter()
    findings: list[str] = []
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = [write_film(folder / film, scenes(12), **how).read_bytes() for film, how in SEEDS.items()]
        for number in range(mutations):
            rng = random.Random(f"{seed} {number}")
            (folder / "film").write_bytes(mutated(seeds[number % len(seeds)], rng))
            began = time.monotonic()
            try:
                reason = take_frames(Task(str(folder / "film"), "film", _CHOICE, str(folder / "frames"))).reason
            except Exception as error:  # noqa: BLE001  whatever it is, it is a finding
                reason = repr(error)
            took = time.monotonic() - began
            slowest = max(slowest, took)
            counts[reason or "taken"] += 1
            if reason not in REASONS or took > SLOW:
                findings.append(f"mutation {number} of {list(SEEDS)[number % len(seeds)]}: {reason}, {took:.1f} s")
    return {"counts": dict(sorted(counts.items())), "slowest": round(slowest, 2), "findings": findings[:20]}


def main() -> int:
    """Parse the command line, run, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    summary = run(options.mutations, options.seed)
    print(json.dumps(summary, indent=2))
    return bool(summary["findings"])


if __name__ == "__main__":
    sys.exit(main())
