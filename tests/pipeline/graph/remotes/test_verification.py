"""`reprise verify` on hand-made folders and caches: what differs, for each output."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from pipeline.graph import dvc
from pipeline.graph.remotes.verification import Verification, verify


class Folder:
    """A project with two outputs, a folder and a file, and a cache that holds both."""

    def __init__(self, root: Path) -> None:
        self.root, self.cache = root, root / ".dvc/cache"
        self.files = {"data/a/x": b"x" * 3_000_000, "data/a/sub/y": b"y", "data/b.html": b"<html>"}
        for name, data in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        (root / "data/.gitignore").write_text("*\n")
        listing = [{"md5": self.put(self.files[f"data/a/{name}"]), "relpath": name} for name in ("sub/y", "x")]
        self.listing = self.put(json.dumps(listing, sort_keys=True).encode(), ".dir")
        page = self.put(self.files["data/b.html"])
        outs = [
            {"path": "data/a", "md5": self.listing, "hash": "md5"},
            {"path": "data/b.html", "md5": page, "hash": "md5"},
        ]
        (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"s": {"cmd": "c", "outs": outs}}}))

    def object(self, name: str) -> Path:
        return self.cache / "files/md5" / name[:2] / name[2:]

    def put(self, data: bytes, suffix: str = "") -> str:
        name = hashlib.md5(data).hexdigest() + suffix
        self.object(name).parent.mkdir(parents=True, exist_ok=True)
        self.object(name).write_bytes(data)
        return name

    def alter(self, path: Path) -> None:
        """Change bytes, but neither size nor time."""
        before = path.stat()
        with path.open("r+b") as file:
            file.write(b"?")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def verify(self) -> Verification:
        return verify(self.root)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(dvc, "cache_folder", lambda root: root / ".dvc/cache")
    return Folder(tmp_path)


def test_nothing_differs(folder: Folder) -> None:
    result = folder.verify()
    assert result.passed
    assert result.lines() == ["2 outputs, 6.0 MB read: nothing differs from dvc.lock"]


def test_altered_bytes_of_the_same_size_and_time(folder: Folder) -> None:
    folder.alter(folder.root / "data/a/x")
    folder.alter(folder.root / "data/b.html")
    result = folder.verify()
    assert result.problems.keys() == {"data/a", "data/b.html"}
    assert result.problems["data/a"] == ["x (altered)"]
    assert not result.cache
    assert result.lines()[-1].endswith("2 differ from dvc.lock")


def test_missing_extra_and_irregular_files(folder: Folder) -> None:
    (folder.root / "data/a/sub/y").unlink()
    (folder.root / "data/a/z.py").write_bytes(b"z")
    assert folder.verify().problems["data/a"] == ["sub/y (missing)", "z.py (extra)"]
    os.mkfifo(folder.root / "data/a/pipe")
    assert folder.verify().problems["data/a"] == ["pipe (no regular file)"]
    (folder.root / "data/b.html").unlink()
    assert folder.verify().missing == ["data/b.html"]
    assert not folder.verify().passed
    (folder.root / "data/b.html").mkdir()
    assert "data/b.html" in folder.verify().problems


def test_a_folder_without_its_listing_still_differs(folder: Folder) -> None:
    folder.object(folder.listing).unlink()
    result = folder.verify()
    assert result.passed
    assert result.uncached == ["data/a"]
    folder.alter(folder.root / "data/a/x")
    assert folder.listing in folder.verify().problems["data/a"][0]


def test_altered_objects_and_listings_of_the_cache(folder: Folder) -> None:
    name = hashlib.md5(b"y").hexdigest()
    folder.alter(folder.object(name))
    result = folder.verify()
    assert not result.problems
    assert name in result.cache["data/a"][0]
    folder.object(folder.listing).write_text(json.dumps([{"md5": name, "relpath": "../../evil.py"}]))
    result = folder.verify()
    assert "is refused" in result.cache["data/a"][0]
    assert not result.passed


def test_files_of_no_output_are_counted(folder: Folder) -> None:
    (folder.root / "data/docs").mkdir()
    for name in ("data/docs/a", "data/docs/b", "data/c"):
        (folder.root / name).write_bytes(b"")
    result = folder.verify()
    assert result.passed
    assert result.unlisted == {"data/docs": 2, "data/c": 1}
    assert "data/docs (2 files)" in result.lines()[0]


def test_progress_is_said(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.graph.remotes.verification._SAY_SECONDS", 0.0)
    lines: list[str] = []
    verify(folder.root, lines.append)
    assert lines[-1] == "read 0.01 of 0.01 GB"
