"""Weights & Biases: a run of a project; without a key, offline, for `wandb sync`. Extra `wandb`."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.exports.trackers.finished import Finished
from reprise.config.errors import ParameterError

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
_SERVICE = "https://api.wandb.ai"  # unless WANDB_BASE_URL names another server
_ONLINE, _OFFLINE = ("online", "run", "shared"), ("offline", "dryrun")  # values of WANDB_MODE that write runs
_DONE = _FOLDER / "tracked-wandb"  # an empty file for each run that was written to its end


class WandB:
    """Configuration, curves by epoch, and figures with the ends of their intervals as the summary.

    Runs are sent where WANDB_MODE says `online` or where there is a key for the server: in WANDB_API_KEY or in netrc.

    Args:
        to: project, or entity/project.
    """

    def __init__(self, to: str | None = None) -> None:
        import wandb  # noqa: F401 - an extra: missing, it is said at once

        self.project = to or Path.cwd().name
        self.offline = _is_offline()

    def holds(self, key: str) -> bool:
        """Look for the mark of a finished write; the service itself is not asked."""
        return (_DONE / self.project.replace("/", "@") / key).is_file()

    def write(self, finished: Finished) -> None:
        """Write a run.

        Raises:
            ParameterError: the service refuses it or cannot be reached.
        """
        with _explained(self.project):
            self._write(finished)
        mark = _DONE / self.project.replace("/", "@") / finished.key
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

    def _write(self, finished: Finished) -> None:
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

    def place(self) -> str:
        """Say how to look at the runs."""
        if self.offline:
            return f"{_FOLDER}/wandb, offline: `wandb sync {_FOLDER}/wandb/offline-run-*` sends them to {self.project}"
        return f"the project {self.project}"


def _is_offline() -> bool:
    """Follow WANDB_MODE; without it, a key decides.

    Raises:
        ParameterError: the mode writes no runs.
    """
    mode = os.environ.get("WANDB_MODE", "").strip().lower()
    if mode and mode not in (*_ONLINE, *_OFFLINE):
        raise ParameterError(
            "this mode of Weights & Biases writes no runs",
            where="WANDB_MODE",
            found=mode,
            fix="Set it to online or offline, or unset it.",
        )
    return mode in _OFFLINE if mode else not _has_key()


def _has_key() -> bool:
    """Return whether there is a key for the server; a netrc that cannot be read has none."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    named = os.environ.get("NETRC")
    paths = [Path(named).expanduser()] if named else [Path.home() / name for name in (".netrc", "_netrc")]
    path = next((path for path in paths if path.is_file()), None)
    try:
        hosts = netrc.netrc(path).hosts if path else {}  # no `default` entry: it is no key of this server
    except (netrc.NetrcParseError, OSError, UnicodeError):
        return False
    _, _, key = hosts.get(urlsplit(os.environ.get("WANDB_BASE_URL") or _SERVICE).netloc, ("", "", ""))
    return bool(key)


@contextmanager
def _explained(project: str) -> Iterator[None]:
    """Turn errors of wandb and of the network into a sentence with wandb's own first line."""
    import requests
    import wandb

    try:
        yield
    except (wandb.Error, requests.RequestException, ConnectionError, TimeoutError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ParameterError(
            "Weights & Biases took no run",
            where=project,
            found=lines[0],
            fix="Look at the key (`wandb login`), the name in --to and the network, or write offline with "
            "WANDB_MODE=offline.",
        ) from error
