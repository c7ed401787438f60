"""Run one command of DVC with checks, in a process of its own."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

_PLACE = "pipeline.graph.in_dvc.transfers"
_TRANSFERS = {
    "send-stages": (f"{_PLACE}.stages", "send_stages"),
    "fetch-known": (f"{_PLACE}.stages", "fetch_known"),
    "send-checkpoint": (f"{_PLACE}.checkpoints", "send_checkpoint"),
    "fetch-checkpoints": (f"{_PLACE}.checkpoints", "fetch_checkpoints"),
    "drop-checkpoints": (f"{_PLACE}.checkpoints", "drop_checkpoints"),
    "try-remote": (f"{_PLACE}.trial", "try_remote"),
}


def run_command(arguments: Sequence[str]) -> int:
    """Run DVC and return its exit status, or 1 if bytes from a remote were refused that it could not compute.

    Args:
        arguments: of DVC's command line.
    """
    from reprise.runtime import interrupts

    with interrupts.ending_soon({signal.SIGINT: ""}):  # whoever started this process says the sentence
        return _run(list(arguments))


def _run(arguments: list[str]) -> int:
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    keep_notes_private()
    from pipeline.graph.in_dvc.cache import REFUSALS
    from pipeline.graph.in_dvc.replacements import do_without_locks, fetch_entries_one_by_one, install
    from reprise.storage.running import announced

    install()
    if command == "status":
        do_without_locks()
    if command == "repro":
        fetch_entries_one_by_one()
    if command == "get-output":
        from pipeline.graph.in_dvc.outputs import get_output

        return get_output(*arguments[1:])
    if command in _TRANSFERS:
        module, function = _TRANSFERS[command]
        return int(getattr(import_module(module), function)(*arguments[1:]))
    from dvc.cli import main as run_dvc

    REFUSALS.optional = command == "repro"
    with announced(_title(arguments), "graph") if command != "status" else nullcontext():
        status = int(run_dvc(arguments) or 0)
    return status or int(REFUSALS.foreign and not REFUSALS.optional)


def _title(arguments: Sequence[str]) -> str:
    return f"dvc {shlex.join(word for word in arguments if word != '--wait-for-lock')}"


def keep_notes_private() -> None:
    """Keep DVC's notes about this folder in the folder.

    Their usual place, /var/tmp/dvc, is open to every user of the machine, and DVC unpickles what it finds there.
    """
    from pipeline.graph.workspace import STATE

    if "DVC_SITE_CACHE_DIR" not in os.environ:
        folder = Path.cwd() / STATE / "dvc"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.environ["DVC_SITE_CACHE_DIR"] = str(folder)
