"""Work folders: where a stage keeps what must survive a kill, outside DVC's outputs, keyed by the stage's inputs.

`.reprise/work/<stage>/<name>/<hash of the inputs>/` holds checkpoints; `inputs.json` beside them says what they
belong to. A lock on the folder keeps a second process out. A finished stage removes it.
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
KEPT_OTHERS = 2  # pieces of unfinished work on other inputs: whoever changes a parameter back finds them again
PATIENCE_SECONDS = 12.0  # more than a stage takes to end after its parent: reprise/runtime/watchdog.py
_HOLDER_BYTES = 300


def file_digest(*paths: str | Path) -> str:
    """SHA-256 over the contents of files and, recursively, folders, with their relative names."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        members = (
            sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
            if path.is_dir()
            else [path]
        )
        for member in members:
            name = str(member.relative_to(path)) if path.is_dir() else member.name
            digest.update(f"{len(name)}:{name}:{member.stat().st_size}:".encode())
            with open(member, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def inputs_key(inputs: dict[str, Any]) -> str:
    """A short hash of the inputs."""
    return hashlib.sha256(dump_json(inputs).encode()).hexdigest()[:16]


def difference(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    """What differs between two nested mappings, one line each: "train.learning_rate: 0.2 -> 0.1"."""
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
    """Hold an exclusive lock on `folder`; the system releases it when the process ends, however it ends.

    Another holder may be just ending, because its parent was killed: it gets PATIENCE_SECONDS.

    Raises:
        WorkspaceBusyError: another process holds it, and still does after that.
    """
    descriptor = _open_lock(folder)
    try:
        _take(descriptor, folder)
        while not _is_current(descriptor, folder):  # the holder before removed the folder when it was done
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
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder / LOCK))
    except FileNotFoundError:
        return False


def _take(descriptor: int, folder: Path) -> None:
    end: float | None = None
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = os.pread(descriptor, _HOLDER_BYTES, 0).decode("utf-8", "replace").strip() or "unknown"
        if end is None:
            end = time.monotonic() + PATIENCE_SECONDS
            said = f"{folder} is held by process {printable(holder)}; waiting {PATIENCE_SECONDS:.0f} s for it to end"
            print(said, file=sys.stderr, flush=True)
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
    """The folder for work on these inputs; removed after success, kept after any failure.

    Work of the same name on other inputs is not used, and what differs is said; it goes when this is done.

    Args:
        name: "pretrain/simclr/0".
        inputs: JSON-serialisable; everything that the result depends on besides code and versions of libraries.
        code: dotted names of the modules that do the work; their fingerprint is part of the inputs.
        restart: discard what is there, on whatever inputs.

    Raises:
        WorkspaceBusyError: another process works under this name.
        CheckpointError: the folder's inputs.json is not what its name says.
    """
    base = root / name
    inputs = keyed_by_code(inputs, code)
    with locked(base):
        if restart:
            for unfinished in [p for p in base.iterdir() if p.is_dir()]:
                shutil.rmtree(unfinished)
        folder = base / inputs_key(inputs)
        _pass_over_others(base, folder, inputs)
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


def _pass_over_others(base: Path, folder: Path, inputs: dict[str, Any]) -> None:
    others = [p for p in base.iterdir() if p.is_dir() and p != folder]
    newest_first = sorted(others, key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True)
    for number, other in enumerate(newest_first):
        fate = "leaving" if number < KEPT_OTHERS else "discarding"
        said = f"{fate} unfinished work on other inputs in {other} ({_what_differs(other, inputs)})"
        print(printable(said), file=sys.stderr, flush=True)
        if number >= KEPT_OTHERS:
            shutil.rmtree(other)


def check_inputs(folder: Path, inputs: dict[str, Any]) -> None:
    """Refuse the work in `folder` if it belongs to other inputs.

    Raises:
        CheckpointError: naming what differs.
    """
    try:
        old = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            "the record of a checkpoint's inputs is unreadable",
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


def _what_differs(folder: Path, inputs: dict[str, Any]) -> str:
    try:
        check_inputs(folder, inputs)
    except CheckpointError as error:
        return error.found
    return "unknown inputs"
