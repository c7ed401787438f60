"""Weights & Biases: a run of a project; without a key, offline, for `wandb sync`. Extra `wandb`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.exports.trackers.finished import Finished

_FOLDER = Path(".reprise")
_QUIET: dict[
    str, Any
] = {  # nothing is sent but what `write` names: no code, no address of the repository, nothing of the machine
    "silent": True,
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
_DONE = _FOLDER / "tracked-wandb"  # an empty file for each run that was written to its end


class WandB:
    """Configuration, curves by epoch, and figures with the ends of their intervals as the summary.

    Args:
        to: project, or entity/project.
    """

    def __init__(self, to: str | None = None) -> None:
        import wandb  # noqa: F401 - an extra: missing, it is said at once

        self.project = to or Path.cwd().name
        self.offline = not (os.environ.get("WANDB_API_KEY") or (Path.home() / ".netrc").is_file())

    def holds(self, key: str) -> bool:
        """Look for the mark of a finished write; the service itself is not asked."""
        return (_DONE / self.project.replace("/", "@") / key).is_file()

    def write(self, finished: Finished) -> None:
        """Write a run."""
        import wandb

        entity, _, project = self.project.rpartition("/")
        _FOLDER.mkdir(exist_ok=True)
        run = wandb.init(
            entity=entity or None,
            project=project,
            name=finished.name,
            id=finished.key,
            group=finished.run,
            dir=str(_FOLDER.absolute()),  # its service may run in another folder
            config={**finished.parameters, **finished.origin},
            mode="offline" if self.offline else "online",
            resume="allow",
            settings=wandb.Settings(**_QUIET),
        )
        epochs = sorted({epoch for curve in finished.curves.values() for epoch, _ in curve})
        rows: dict[int, dict[str, float]] = {epoch: {} for epoch in epochs}
        for name, curve in finished.curves.items():
            for epoch, value in curve:
                rows[epoch][name] = value
        for epoch, row in rows.items():
            run.log(row, step=epoch)
        for name, figure in finished.figures.items():
            ends = {"": figure.value, ".low": figure.low, ".high": figure.high}
            run.summary.update({f"{name}{end}": value for end, value in ends.items() if value is not None})
        run.finish()
        mark = _DONE / self.project.replace("/", "@") / finished.key
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

    def place(self) -> str:
        """Say how to look at the runs."""
        if self.offline:
            return f"{_FOLDER}/wandb, offline: `wandb sync {_FOLDER}/wandb/offline-run-*` sends them to {self.project}"
        return f"the project {self.project}"
