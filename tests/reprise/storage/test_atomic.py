"""A reader sees the old artifact or the new one: under failure, kill, full disk and read-only folders."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprise.config.errors import StorageError
from reprise.storage.atomic import atomic_directory, atomic_file, dump_json, explained_storage, write_json

ROOT = Path(__file__).parents[3]


def test_a_file_appears_whole_and_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with atomic_file(path, "w") as file:
            file.write("half")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for content in ("one", "two"):
        with atomic_directory(path) as partial:
            (partial / content).mkdir()
            (partial / content / "x").write_text(content)
            assert not (path / content).exists()
    assert [p.name for p in path.iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with atomic_directory(path) as partial:
        (partial / "x").write_text("old")

    def fail() -> None:
        with atomic_directory(path) as partial:
            (partial / "x").write_text("new")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert (path / "x").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_writer_left_is_swept_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from reprise.storage.atomic import atomic_directory\n"
        "with atomic_directory('out') as partial:\n"
        "    (partial / 'stale').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == -9
    assert not (tmp_path / "out").exists()
    with atomic_directory(tmp_path / "out") as partial:
        (partial / "fresh").write_text("whole")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["fresh"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR])
def test_storage_problems_become_sentences(tmp_path: Path, number: int) -> None:
    def fail() -> None:
        with explained_storage(tmp_path / "file"):
            raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError) as caught:
        fail()
    assert os.strerror(number) in str(caught.value)
    assert str(tmp_path / "file") in str(caught.value)
    assert caught.value.fix.endswith(".")


def test_other_os_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), explained_storage(tmp_path):
        raise IsADirectoryError(errno.EISDIR, "x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / ".partial-file").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left"), atomic_file(tmp_path / "file") as file:
        file.write(b"x" * 100_000)
    assert not (tmp_path / "file").exists()


def test_a_file_in_the_way_of_a_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("file")
    with pytest.raises(StorageError, match="folder is needed"):
        write_json(tmp_path / "a" / "b.json", {})


def test_json_is_the_same_bytes_whatever_the_order() -> None:
    assert (
        dump_json({"b": 1, "a": [1.5, None, "ä"]})
        == dump_json({"a": [1.5, None, "ä"], "b": 1})
        == '{\n  "a": [\n    1.5,\n    null,\n    "ä"\n  ],\n  "b": 1\n}\n'
    )
    with pytest.raises(ValueError, match="Out of range"):
        dump_json({"a": float("nan")})
