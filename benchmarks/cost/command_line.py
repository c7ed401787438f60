"""The command line of `python -m benchmarks.cost`. What cannot be measured here must be given: it has no default."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser; `description` is shown by `--help`."""
    words = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("images", "ranks", "node-gpus", "epochs", "workers"):
        words.add_argument(f"--{name}", type=_positive(int), required=True)
    for name in ("gpu-images-a-second", "price-gpu-hour", "price-core-hour", "price-terabyte-month"):
        words.add_argument(f"--{name}", type=_positive(float), required=True)
    words.add_argument("--image-bytes", type=_positive(float), help="of an image; default: of those made here")
    words.add_argument("--rank-efficiency", type=_positive(float), default=1.0, help="an assumption (default: 1)")
    for name, default in (("runs", 1), ("jobs", 1), ("moves", 50), ("repeats", 3)):
        words.add_argument(f"--{name}", type=_positive(int), default=default)
    words.add_argument("--against-images", type=_positive(int), nargs="+", default=[10**6, 10**7, 10**8])
    words.add_argument("--against-workers", type=_positive(int), nargs="+", default=[1, 16, 256])
    words.add_argument("--toy", action="store_true", help="small sizes, to see that it runs")
    words.add_argument("--json", type=Path)
    return words


def _positive(kind: type) -> Any:
    def read(text: str) -> Any:
        value = kind(text)
        if not 0 < value < 1e18:
            raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
        return value

    return read
