"""DVCLive files under .reprise/live, for watching a run while it trains (in VS Code's DVC extension); never outputs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

FOLDER = Path(".reprise/live")


class LiveLog:
    """Log a row per epoch. Whatever goes wrong here is printed once and never stops a training.

    Args:
        name: of the run and its seed, which is the folder below FOLDER ("simclr/0").
        off: log nothing.
    """

    def __init__(self, name: str, off: bool = False) -> None:
        self.folder = FOLDER / name
        self.live: Any = None
        self.off = off

    def __call__(self, epoch: int, figures: dict[str, float]) -> None:
        """Log the figures of an epoch, counted from 1; a resumed run appends to its files."""
        if self.off:
            return
        try:
            if self.live is None:
                from dvclive import Live

                self.live = Live(
                    str(self.folder), resume=epoch > 1, save_dvc_exp=False, dvcyaml=None, monitor_system=False
                )
            for name, value in figures.items():
                if name not in ("epoch", "step"):
                    self.live.log_metric(name, value)
            self.live.next_step()
        except Exception as error:  # noqa: BLE001 - a display: a repository without commits, a full disk, ...
            self.off = True
            print(f"no live log in {self.folder}: {error}", file=sys.stderr, flush=True)
