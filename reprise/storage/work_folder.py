"""Work folders: a place for what must survive a kill, outside DVC's outputs, keyed by the stage's inputs.

`.reprise/work/<stage>/<name>/<hash of the inputs>/` holds checkpoints, and `inputs.json` beside them records the inputs
that they belong to. A lock on `.reprise/work/<stage>/<name>` keeps a second process out (`reprise.storage.locks`), even
after somebody removed the folder. A stage that succeeds removes the folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reprise.config.errors import CheckpointError, StorageError, WorkspaceBusyError, printable
from reprise.storage.atomic import dump_json, write_json
from reprise.storage.code.fingerprint import changed_definitions, fingerprint
from reprise.storage.locks import FileLock
from reprise.storage.provenance import libraries

ROOT = Path(".reprise/work")
INPUTS = "inputs.json"
LOCK = ".lock"
KEPT_OTHERS = 2  # folders of unfinished work on other inputs, for somebody who changes a parameter back
PATIENCE_SECONDS = 12.0  # more than a stage takes to end after its parent (reprise/runtime/watchdog.py)


def file_digest(*paths: str | Path) -> str:
    """Compute one SHA-256 over the contents of files and, recursively, of folders, with their relative names."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        members = (
            sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
            if path.is_dir()
            else [path]
        )
        for member in members:
            name = str(member.relative_to(path)) if path.is_dir() else member.name
            # The lengths make the encoding unambiguous: no two sets of files give the same sequence of bytes.
            digest.update(f"{len(name)}:{name}:{member.stat().st_size}:".encode())
            with open(member, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def inputs_key(inputs: dict[str, Any]) -> str:
    """Return a short hash of the inputs, which names the folder."""
    return hashlib.sha256(dump_json(inputs).encode()).hexdigest()[:16]


def difference(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    """List the differences between two nested mappings, one line each: "train.learning_rate: 0.2 -> 0.1".

    Args:
        old: the earlier mapping.
        new: the present one.
        path: prefix of the keys, with its full stop.
    """
    lines = []
    for key in sorted(old.keys() | new.keys()):
        a, b, name = old.get(key), new.get(key), f"{path}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            lines += difference(a, b, f"{name}.")
        elif a != b:
            lines.append(f"{name}: {a} -> {b}")
    return lines


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on `folder`, which is made if it is missing.

    A stage whose parent was killed ends a few seconds after it and then releases its lock, so this waits up to
    PATIENCE_SECONDS.

    Raises:
        WorkspaceBusyError: another process holds the lock even then.
    """
    lock = FileLock(folder / LOCK)
    end: float | None = None
    try:
        while not lock.take():
            holder = lock.holder()
            if end is None:
                end = time.monotonic() + PATIENCE_SECONDS
                message = f"{folder} is held by {holder}; waiting {PATIENCE_SECONDS:.0f} s for it to end"
                print(printable(message), file=sys.stderr, flush=True)
            if time.monotonic() >= end:
                raise WorkspaceBusyError(
                    "another process is working on this",
                    where=folder,
                    found=holder,
                    fix="Wait for it to end, or stop it, and run again.",
                )
            time.sleep(0.1)
        yield
    finally:
        lock.release()


@contextmanager
def work_folder(
    name: str, inputs: dict[str, Any], code: Sequence[str], restart: bool = False, root: Path = ROOT
) -> Iterator[Path]:
    """Yield the folder for work on these inputs; remove it after success, keep it after any failure.

    Unfinished work of the same name on other inputs is not used; a message states what differs. It is removed together
    with this folder.

    Args:
        name: stage and name of the work, such as "pretrain/simclr/0".
        inputs: JSON-serialisable; everything on which the result depends besides code and versions of libraries.
        code: dotted names of the modules that do the work; their fingerprint is part of the inputs.
        restart: discard all unfinished work of this name.
        root: folder of all work folders.

    Raises:
        WorkspaceBusyError: another process works under this name.
        StorageError: somebody removed the folder, and the work cannot go on without it.
        CheckpointError: the inputs.json in the folder does not match the folder's name.
    """
    base = root / name
    inputs = keyed_by_code(inputs, code)
    with locked(base):
        if restart:
            for unfinished in [p for p in base.iterdir() if p.is_dir()]:
                shutil.rmtree(unfinished)
        folder = base / inputs_key(inputs)
        _skip_others(base, folder, inputs)
        folder.mkdir(exist_ok=True)
        if (folder / INPUTS).exists():
            check_inputs(folder, inputs)
        else:
            write_json(folder / INPUTS, inputs)
        try:
            yield folder
        except FileNotFoundError as error:
            if folder.exists():
                raise
            raise StorageError(
                "the work folder was removed while a stage worked in it",
                where=folder,
                found=f"{error.strerror}: {error.filename}" if error.filename else error,
                fix="Run again; what was not saved elsewhere is computed anew.",
            ) from error
        with suppress(FileNotFoundError):  # somebody has removed it already
            shutil.rmtree(base)


def keyed_by_code(inputs: dict[str, Any], code: Sequence[str]) -> dict[str, Any]:
    """Add to the inputs of a piece of work the fingerprint of the modules that do it, and the versions of libraries."""
    return inputs | {"code": fingerprint(code), "libraries": libraries()}


def _skip_others(base: Path, folder: Path, inputs: dict[str, Any]) -> None:
    """Name the unfinished work on other inputs, and discard all but the KEPT_OTHERS newest."""
    others = [p for p in base.iterdir() if p.is_dir() and p != folder]
    newest_first = sorted(others, key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True)
    for number, other in enumerate(newest_first):
        verb = "leaving" if number < KEPT_OTHERS else "discarding"
        message = f"{verb} unfinished work on other inputs in {other} ({_differences(other, inputs)})"
        print(printable(message), file=sys.stderr, flush=True)
        if number >= KEPT_OTHERS:
            shutil.rmtree(other)


def check_inputs(folder: Path, inputs: dict[str, Any]) -> None:
    """Refuse the work in `folder` if it belongs to other inputs.

    Raises:
        CheckpointError: the inputs differ, and the message names how; or their record cannot be read.
    """
    try:
        old = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            "the record of a checkpoint's inputs cannot be read",
            where=folder / INPUTS,
            found=error,
            fix="Run again with --restart to discard it.",
        ) from error
    new = json.loads(dump_json(inputs))
    code = changed_definitions(old.pop("code", {}), new.pop("code", {}))
    changed = difference(old, new) + [f"code: {line}" for line in code]
    if changed:
        raise CheckpointError(
            "a checkpoint belongs to other inputs",
            where=folder,
            found="; ".join(changed[:10]),
            fix="Run again with --restart to discard it.",
        )


def _differences(folder: Path, inputs: dict[str, Any]) -> str:
    try:
        check_inputs(folder, inputs)
    except CheckpointError as error:
        return error.found
    return "unknown inputs"
