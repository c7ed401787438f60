"""Work folders: a place for what must survive a kill, outside DVC's outputs, keyed by the stage's inputs.

`.reprise/work/<stage>/<name>/<hash of the inputs>/` holds checkpoints, and `inputs.json` beside them records the inputs
that they belong to. A lock on `.reprise/work/<stage>/<name>` keeps a second process out. A stage that succeeds removes
the folder.

The lock is flock(2) on the file `.lock`. The system releases it when the process ends, even by SIGKILL, so no lock is
ever stale. But the holder removes the folder, with the lock file in it, while others may be waiting: they then get the
lock of a file that has no name any more, beside which a third process can create and lock a new one. So whoever gets
the lock checks that the file of that name is still the one it has locked, and otherwise starts again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reprise.config.errors import CheckpointError, WorkspaceBusyError, printable
from reprise.storage.atomic import dump_json, explained_storage, write_json
from reprise.storage.fingerprint import changed_definitions, fingerprint
from reprise.storage.provenance import libraries

ROOT = Path(".reprise/work")
INPUTS = "inputs.json"
LOCK = ".lock"
KEPT_OTHERS = 2  # folders of unfinished work on other inputs, for somebody who changes a parameter back
PATIENCE_SECONDS = 12.0  # more than a stage takes to end after its parent (reprise/runtime/watchdog.py)
_HOLDER_BYTES = 300  # of the lock file: process and command of the holder, for messages


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
    descriptor = _open_lock(folder)
    try:
        _take(descriptor, folder)
        while not _is_current(descriptor, folder):  # the last holder has removed the folder: see above
            os.close(descriptor)
            descriptor = _open_lock(folder)
            _take(descriptor, folder)
        os.ftruncate(descriptor, 0)
        command = " ".join(" ".join(["python", *sys.orig_argv[1:]]).split())
        os.pwrite(descriptor, f"{os.getpid()}: {command}".encode("utf-8", "backslashreplace")[:_HOLDER_BYTES], 0)
        yield
    finally:
        os.close(descriptor)


def _open_lock(folder: Path) -> int:
    with explained_storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _is_current(descriptor: int, folder: Path) -> bool:
    """Return whether the locked file is still the one that new processes would open."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder / LOCK))
    except FileNotFoundError:
        return False


def _take(descriptor: int, folder: Path) -> None:
    """Lock the file, waiting for another holder to end."""
    end: float | None = None
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = os.pread(descriptor, _HOLDER_BYTES, 0).decode("utf-8", "replace").strip() or "unknown"
        if end is None:
            end = time.monotonic() + PATIENCE_SECONDS
            message = f"{folder} is held by process {printable(holder)}; waiting {PATIENCE_SECONDS:.0f} s for it to end"
            print(message, file=sys.stderr, flush=True)
        if time.monotonic() >= end:
            raise WorkspaceBusyError(
                "another process is working on this",
                where=folder,
                found=f"process {holder}",
                fix="Wait for it to end, or stop it, and run again.",
            )
        time.sleep(0.1)


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
        yield folder
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
