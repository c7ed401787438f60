"""Progress of whatever may take longer than two seconds: on stderr, and in the file that `reprise status` reads.

On a terminal it is a bar. Elsewhere (logs of DVC, Prefect, CI) it is a line after two seconds, and then one every half
minute. A stage's option `--quiet` turns both off, REPRISE_QUIET=1 those of all stages.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Self, TypeVar

from reprise.storage.running import begin_work, end_work

T = TypeVar("T")
PATIENCE_SECONDS = 2.0  # before the first line
LINE_SECONDS = 30.0  # between two lines
QUIET = "REPRISE_QUIET"


class Progress:
    """Count work and show it.

    Args:
        label: names the work ("pretrain simclr seed 0").
        total: how much there is, in units; None if unknown.
        unit: what is counted ("images").
        done: how much an earlier process has done; the rate leaves it out.
        of: the last value of figures that count ("epoch"), for `reprise status`.
    """

    def __init__(
        self, label: str, total: int | None, unit: str = "images", done: int = 0, of: dict[str, int] | None = None
    ) -> None:
        self.label, self.total, self.unit, self.done, self.first = label, total, unit, done, done
        self.of, self.figures = of or {}, dict[str, float]()
        self.began = time.monotonic()
        self._next_line = self.began + PATIENCE_SECONDS
        self._bar = None
        self._quiet = os.environ.get(QUIET) == "1"
        if sys.stderr.isatty() and not self._quiet:
            self._bar = _bars[0] if _bars else _new_bar()
            self._task = self._bar.add_task(label, total=total, completed=done, note="")
        begin_work(self)

    def advance(self, amount: int, **figures: float) -> None:
        """Count `amount` more units; `figures` (loss, lr) are shown beside the rate."""
        self.done += amount
        self.figures = figures
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, note=self._note())
        else:
            self.tick()

    def tick(self) -> None:
        """Print a line if one is due; the thread that writes for `reprise status` calls this as well."""
        now = time.monotonic()
        if self._bar is None and now >= self._next_line and not self._quiet:
            self._next_line = now + LINE_SECONDS
            share = f" of {self.total:,} ({100 * self.done / self.total:.0f} %)" if self.total else ""
            left = f"  {self._left()} left" if self.total and self.done > self.first else ""
            print(f"{self.label}: {self.done:,}{share} {self.unit}  {self._note()}{left}", file=sys.stderr, flush=True)

    def _note(self) -> str:
        shown = (f"{k} {v:,}" if isinstance(v, int) else f"{k} {v:.4g}" for k, v in self.figures.items())
        return "  ".join([f"{self._speed()} {self.unit}/s", *shown])

    def state(self) -> dict[str, Any]:
        """Return what `reprise status` shows, as JSON has it."""
        return {
            "label": self.label,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "rate": self.rate(),
            "figures": self.figures,
            "of": self.of,
        }

    def rate(self) -> float:
        """Return units per second since the start of this process."""
        return (self.done - self.first) / max(time.monotonic() - self.began, 1e-9)

    def _speed(self) -> str:
        """Show the rate, with a decimal where a whole number would say little."""
        rate = self.rate()
        return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"

    def _left(self) -> str:
        """Estimate the time to the end at the rate so far: h:mm:ss."""
        seconds = round(max(0, (self.total or 0) - self.done) / max(self.rate(), 1e-9))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end_work(self)
        if self._bar is not None:
            self._bar.remove_task(self._task)
            if not self._bar.tasks:
                self._bar.stop()
                _bars.clear()


_bars: list[Any] = []  # one for the whole terminal, with a row for each loop inside another


def _new_bar() -> Any:
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
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    bar.start()
    _bars.append(bar)
    return bar


def track(iterable: Iterable[T], label: str, total: int | None = None, unit: str = "images") -> Iterator[T]:
    """Yield from `iterable` and show how far it has come."""
    with Progress(label, total if total is not None else _length(iterable), unit) as progress:
        for item in iterable:
            yield item
            progress.advance(1)


def _length(iterable: object) -> int | None:
    return len(iterable) if hasattr(iterable, "__len__") else None
