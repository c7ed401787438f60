"""The files that the page is made from, each with its SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from reprise.artifacts.layout import inputs_of_report


@dataclass(frozen=True)
class Input:
    """A file, its size in bytes and its SHA-256."""

    path: str
    bytes: int
    sha256: str


def read_inputs() -> tuple[Input, ...]:
    """Hash all inputs, by path. The index of the shards stands for them: it holds the hash of every image."""
    files = sorted(
        {
            f
            for pattern in inputs_of_report()
            for f in Path().glob(pattern)
            if f.is_file() and not f.name.startswith(".")
        }
    )
    return tuple(_hash(file) for file in files)


def _hash(path: Path) -> Input:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Input(path.as_posix(), file.tell(), digest.hexdigest())
