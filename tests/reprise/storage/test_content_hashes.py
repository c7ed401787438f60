"""Hashes of files, and when a remembered one is believed."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path

import pytest

from reprise.storage import content_hashes
from reprise.storage.content_hashes import ContentHashes, IrregularFile, md5_of_file, read_regular

DATA = b"bytes" * 300_000


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three files that were not changed for a while."""
    paths = []
    for number in range(3):
        path = tmp_path / f"file{number}"
        path.write_bytes(DATA + bytes([number]))
        paths.append(str(path))
    return paths


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let young files be remembered, and list the files that are read."""
    monkeypatch.setattr(content_hashes, "_RACY_NS", -(10**12))
    read: list[str] = []

    def spy(path: str, **options: object) -> str:
        read.append(path)
        return md5_of_file(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(content_hashes, "md5_of_file", spy)
    return read


def test_hashes_are_those_of_the_bytes_and_every_byte_is_counted(files: list[str]) -> None:
    counted: list[int] = []
    found = ContentHashes(record=None).md5s([*files, files[0]], on_bytes=counted.append)
    assert found == {path: hashlib.md5(Path(path).read_bytes()).hexdigest() for path in files}
    assert sum(counted) == 3 * (len(DATA) + 1)


def test_a_file_is_read_once_and_again_after_any_change(files: list[str], calm: list[str], tmp_path: Path) -> None:
    record = tmp_path / "state/hashes.sqlite"
    first = ContentHashes(record).md5s(files)
    assert sorted(calm) == files
    calm.clear()
    assert ContentHashes(record).md5s(files) == first
    assert calm == []
    before = os.stat(files[1])
    time.sleep(0.02)  # more than a tick of the file system's clock
    with open(files[1], "r+b") as file:
        file.write(b"B")
    os.utime(files[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(files[1])
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino)
    found = ContentHashes(record).md5s(files)
    assert calm == [files[1]]
    assert found[files[1]] == hashlib.md5(Path(files[1]).read_bytes()).hexdigest() != first[files[1]]


def test_a_young_file_is_not_remembered(files: list[str], tmp_path: Path) -> None:
    record = tmp_path / "hashes.sqlite"
    ContentHashes(record).md5s(files)
    assert not record.exists()


def test_a_broken_record_costs_time_only(files: list[str], calm: list[str], tmp_path: Path) -> None:
    record = tmp_path / "hashes.sqlite"
    record.write_bytes(b"no database" * 100)
    first = ContentHashes(record).md5s(files)
    assert ContentHashes(record).md5s(files) == first
    assert len(calm) == 6


def test_pipes_devices_links_and_missing_files_are_errors(tmp_path: Path) -> None:
    pipe, link, folder = tmp_path / "pipe", tmp_path / "link", tmp_path / "folder"
    os.mkfifo(pipe)
    (tmp_path / "file").write_bytes(b"x")
    link.symlink_to(tmp_path / "file")
    folder.mkdir()
    paths = [str(path) for path in (pipe, link, folder, tmp_path / "missing", Path("/dev/zero"))]
    found = ContentHashes(record=None).md5s(paths, follow=False)
    kinds = [type(found[path]) for path in paths]
    assert kinds == [IrregularFile, IrregularFile, IrregularFile, FileNotFoundError, IrregularFile]
    assert ContentHashes(record=None).md5s([str(link)]) == {str(link): hashlib.md5(b"x").hexdigest()}
    with pytest.raises(IrregularFile) as refused:
        read_regular(pipe, 10)
    assert refused.value.errno == errno.EINVAL
    assert read_regular(tmp_path / "file", 10) == b"x"
