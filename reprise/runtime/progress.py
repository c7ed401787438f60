"""Progress on stderr: a bar on a terminal, and a line every half minute elsewhere (logs of DVC, Prefect, CI).

A stage's option `--quiet` turns it off, REPRISE_QUIET=1 that of all stages.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Self, TypeVar

T = TypeVar("T")
LINE_SECONDS = 30.0
QUIET = "REPRISE_QUIET"


class Progress:
    """Count work and show it.

    Args:
        label: names the work ("pretrain simclr seed 0").
        total: how much there is, in units; None if unknown.
        unit: what is counted ("images").
        done: how much an earlier process has done; the rate leaves it out.
    """

    def __init__(self, label: str, total: int | None, unit: str = "images", done: int = 0) -> None:
        self.label, self.total, self.unit, self.done, self.first = label, total, unit, done, done
        self.began = self.last_line = time.monotonic()
        self._bar = None
        self._quiet = os.environ.get(QUIET) == "1"
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(label, total=total, completed=done, note="")
            self._bar.start()

    def advance(self, amount: int, **figures: float) -> None:
        """Count `amount` more units; `figures` (loss, lr) are shown beside the rate."""
        self.done += amount
        now = time.monotonic()
        note = "  ".join([f"{self.rate():,.0f} {self.unit}/s", *(f"{k} {v:.4g}" for k, v in figures.items())])
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, note=note)
        elif now - self.last_line >= LINE_SECONDS and not self._quiet:
            self.last_line = now
            share = f" of {self.total:,} ({100 * self.done / self.total:.0f} %)" if self.total else ""
            left = f"  {self._left()} left" if self.total else ""
            print(f"{self.label}: {self.done:,}{share} {self.unit}  {note}{left}", file=sys.stderr, flush=True)

    def rate(self) -> float:
        """Return units per second since the start of this process."""
        return (self.done - self.first) / max(time.monotonic() - self.began, 1e-9)

    def _left(self) -> str:
        """Estimate the time to the end at the rate so far: h:mm:ss."""
        seconds = round(max(0, (self.total or 0) - self.done) / max(self.rate(), 1e-9))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def track(iterable: Iterable[T], label: str, total: int | None = None, unit: str = "images") -> Iterator[T]:
    """Yield from `iterable` and show how far it has come."""
    with Progress(label, total if total is not None else _length(iterable), unit) as progress:
        for item in iterable:
            yield item
            progress.advance(1)


def _length(iterable: object) -> int | None:
    return len(iterable) if hasattr(iterable, "__len__") else None
