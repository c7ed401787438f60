"""Notes of what each stage used, by which a record of DVC that says otherwise is found.

A stage compares its inputs as the last thing it does (reprise/runtime/declared_inputs.py), and DVC reads them some
milliseconds later. An edit between the two would be recorded. So each stage leaves a note in `.reprise/used`, and the
notes of one DVC process are held against dvc.lock by the next stage that it starts and, where `reprise` started DVC, at
the end (pipeline/graph/records.py).
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from reprise.config.dvc_file import Stage
from reprise.config.errors import InputsChanged, listed
from reprise.config.params import PARAMS_FILE
from reprise.runtime.watchdog import parents
from reprise.storage.atomic import write_json
from reprise.storage.work_folder import difference

NOTES = Path(".reprise/used")
LOCK_FILE = Path("dvc.lock")


def dvc_process() -> str:
    """Name the DVC process that started this one, as no later process will be called."""
    for pid in reversed(parents()):
        try:
            return f"{pid} {psutil.Process(pid).create_time()}"
        except psutil.Error:
            continue
    return "unknown"


def write_note(stage: Stage, params: dict[str, Any], files: dict[str, str | None]) -> None:
    """Write down what a stage used.

    Args:
        stage: the stage.
        params: values of its declared parameters.
        files: MD5 of its declared inputs, where they are small files.
    """
    note = {"dvc": dvc_process(), "stage": stage.name, "title": stage.title, "cmd": stage.cmd}
    write_json(_path(stage.name), note | {"params": params, "deps": files})


def notes(
    dvc: str | None = None, since: float = 0.0, stage: str | None = None, root: Path = Path()
) -> list[dict[str, Any]]:
    """Read the notes.

    Args:
        dvc: only those of this DVC process (`dvc_process`).
        since: only those written at this time (seconds since the epoch) or later.
        stage: only that of the stage which DVC calls so.
        root: the project folder.
    """
    found = []
    for file in sorted((root / NOTES).glob("*.json")):
        try:
            if file.stat().st_mtime < since:
                continue
            note = json.loads(file.read_text(encoding="utf-8"))
            whole = {"stage", "title", "cmd", "params", "deps"} <= note.keys()
            if whole and dvc in (None, note["dvc"]) and stage in (None, note["stage"]):
                found.append(note)
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            continue  # a note that cannot be read says nothing
    return found


def contradictions(note: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    """Say in what an entry of dvc.lock differs from what the stage used: "train.epochs: 3 -> 60".

    Args:
        note: what the stage used.
        entry: what DVC recorded of the same stage.
    """
    recorded = (entry.get("params") or {}).get(str(PARAMS_FILE), {})
    lines = difference(note["params"], {key: recorded.get(key) for key in note["params"]})
    present = {dep["path"]: dep.get("md5") for dep in entry.get("deps", [])}
    for path, md5 in sorted(note["deps"].items()):
        if path not in present:
            lines.append(f"{path}: not recorded")
        elif md5 is not None and present[path] != md5:
            lines.append(f"{path}: another content")
    return lines + [f"{path}: recorded, not used" for path in sorted(present.keys() - note["deps"].keys())]


def wrong_records(
    dvc: str | None = None, since: float = 0.0, stage: str | None = None, root: Path = Path()
) -> dict[str, list[str]]:
    """Find what dvc.lock records wrongly, by the notes; a note that agrees has done its work and is removed.

    Args:
        dvc: look only at the stages that this DVC process started.
        since: look only at stages that ended at this time (seconds since the epoch) or later.
        stage: look only at the stage which DVC calls so.
        root: the project folder.

    Returns:
        By DVC's name of the stage, what differs.
    """
    mine, lock = notes(dvc, since, stage, root), root / LOCK_FILE
    text = lock.read_text(encoding="utf-8") if mine and lock.is_file() else ""
    wrong = {}
    for note in mine:
        entry = lock_entry(text, note["stage"])
        if entry is None or entry.get("cmd") != note["cmd"]:
            continue  # DVC recorded nothing, or has not done so yet
        differences = contradictions(note, entry)
        if differences:
            wrong[note["stage"]] = [f"{note['title']}: {line}" for line in differences]
        else:
            (root / _path(note["stage"])).unlink(missing_ok=True)
    return wrong


def refuse_wrong_records(dvc: str) -> None:
    """Stop where DVC recorded of an earlier stage of the same run what that stage did not use.

    Raises:
        InputsChanged: naming the stages and what differs.
    """
    lines = [line for each in wrong_records(dvc).values() for line in each]
    if lines:
        raise InputsChanged(
            "inputs changed in the moment between the end of a stage and DVC's record of it",
            where=LOCK_FILE,
            found=listed(lines[:12]),
            fix="Run `reprise repro`: it removes this record and runs that stage again.",
        )


def lock_entry(text: str, name: str) -> dict[str, Any] | None:
    """Return the entry of one stage of dvc.lock. Reading the whole file would take longer than many a stage.

    Args:
        text: the content of dvc.lock.
        name: DVC's name of the stage.
    """
    match = re.search(rf"^  {re.escape(name)}:\n((?: {{4}}.*\n)+)", text, flags=re.MULTILINE)
    if match is None:
        return None
    try:
        entry = YAML(typ="safe", pure=True).load(textwrap.dedent(match[1]))
    except YAMLError:
        return None
    return entry if isinstance(entry, dict) else None


def _path(name: str) -> Path:
    return NOTES / f"{name.replace('/', '-')}.json"
