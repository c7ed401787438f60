"""Signatures of files: what a file system says of them, by which DVC too decides whether it must read a file again."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

Signature = tuple[int, int, int]  # bytes, time of the last change in nanoseconds, inode

_LEFT_OUT = ("__pycache__", "*.pyc", "*.egg-info", ".gitignore", "README.md", ".partial-*")  # as in .dvcignore


def signature_of(path: str | Path) -> Signature | None:
    """Return the signature of a file, or None if there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def signatures(paths: Iterable[str | Path]) -> dict[str, Signature | None]:
    """Return the signatures of files and, recursively, of all files in folders, less what .dvcignore leaves out.

    Args:
        paths: files and folders; one that is missing gets None.
    """
    result: dict[str, Signature | None] = {}
    for path in map(str, paths):
        if not os.path.isdir(path):
            result[path] = signature_of(path)
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not _is_left_out(name))
            for name in sorted(names):
                if not _is_left_out(name):
                    result[os.path.join(folder, name)] = signature_of(os.path.join(folder, name))
    return result


def changed_files(before: dict[str, Signature | None], after: dict[str, Signature | None]) -> list[str]:
    """Say of each file that differs what happened to it: "targets.csv (changed)"."""
    lines = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old != new:
            lines.append(f"{path} ({'new' if old is None else 'gone' if new is None else 'changed'})")
    return lines


def _is_left_out(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in _LEFT_OUT)
