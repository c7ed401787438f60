"""Take back what DVC recorded of a stage that used other inputs.

A stage compares its inputs as the last thing it does (reprise/runtime/declared_inputs.py). An edit in the milliseconds
between that and DVC's own reading is found here, by the note that the stage left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.graph.lock_file import drop_entries, read_lock
from pipeline.graph.workspace import hold_dvc_lock
from reprise.config.errors import InputsChanged, listed
from reprise.runtime.used_inputs import LOCK_FILE, notes, wrong_records

_SHOWN = 12


@contextmanager
def truthful_records(root: Path, cache: Callable[[Path], Path], stage: str | None = None) -> Iterator[None]:
    """Remove from dvc.lock and from the run cache what stages that ended inside the `with` block did not use.

    Args:
        root: the project folder.
        cache: gives the folder of DVC's cache.
        stage: looks only at this stage, because others run beside it, of which DVC has recorded nothing yet.

    Raises:
        InputsChanged: a record was wrong, and has been removed.
    """
    began = time.time()
    yield
    if not notes(since=began, stage=stage, root=root):
        return
    with hold_dvc_lock(root):
        wrong = wrong_records(since=began, stage=stage, root=root)
        if not wrong:
            return
        entries = read_lock(root)
        commands = {entries[name]["cmd"] for name in wrong}
        drop_entries(wrong, root)
        _forget(cache(root) / "runs", commands, began)
    raise InputsChanged(
        "inputs changed in the moment in which DVC recorded a stage; the record has been removed",
        where=root / LOCK_FILE,
        found=listed([line for lines in wrong.values() for line in lines][:_SHOWN]),
        fix="Run `reprise repro` again: it runs these stages with the present inputs.",
    )


def _forget(runs: Path, commands: Iterable[str], since: float) -> None:
    """Remove the entries of the run cache that were written for these commands lately."""
    wanted = set(commands)
    for file in runs.glob("*/*/*"):
        with suppress(OSError, YAMLError, UnicodeDecodeError):
            if file.stat().st_mtime >= since:
                entry = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
                if isinstance(entry, dict) and entry.get("cmd") in wanted:
                    file.unlink()
