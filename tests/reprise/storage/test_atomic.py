"""A reader sees the old artifact or the new one: under failure, kill, full disk and read-only folders."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprise.config.errors import StorageError
from reprise.storage import atomic
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
def test_a_full_disk_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(atomic, "_open_partial", lambda path: (tmp_path / ".partial-file", full))
    with pytest.raises(StorageError, match="No space left"), atomic_file(tmp_path / "file") as file:
        file.write(b"x" * 100_000)
    assert not (tmp_path / "file").exists()


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_file(path) as first:
        first.write(b"first")
        with atomic_file(path) as second:
            second.write(b"second, which is longer")
        assert path.read_bytes() == b"second, which is longer"
        first.write(b" goes on")
    assert path.read_bytes() == b"first goes on"
    assert list(tmp_path.iterdir()) == [path]


def test_many_writers_at_once_leave_one_whole_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    code = (
        "import sys\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "from reprise.storage.atomic import atomic_file\n"
        "def write(n):\n"
        "    with atomic_file('file') as file:\n"
        "        file.write(sys.argv[1].encode() * 5000)\n"
        "        file.flush()\n"
        "        file.write(sys.argv[1].encode() * 5000)\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    list(pool.map(write, range(40)))\n"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    writers = [subprocess.Popen([sys.executable, "-c", code, letter], cwd=tmp_path, env=env) for letter in "abc"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            seen.add(path.read_bytes())
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert seen | {path.read_bytes()} <= {letter.encode() * 10_000 for letter in "abc"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_file_of_a_killed_writer_is_removed_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom reprise.storage.atomic import atomic_file\n"
        "with atomic_file('file') as file:\n"
        "    file.write(b'half')\n"
        "    print('writes', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env, text=True, **pipes) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writes\n"
        with atomic_file(tmp_path / "file") as file:
            file.write(b"whole")
        assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-file", "file"]
        writer.kill()
    with atomic_file(tmp_path / "file") as file:
        file.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_the_second_of_two_writers_left_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, signal\nfrom reprise.storage.atomic import atomic_file\n"
        "with atomic_file('file') as file:\n"
        "    file.write(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with atomic_file(tmp_path / "file") as first:
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
        )
        first.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-file.1", "file"]
    with atomic_file(tmp_path / "file") as file:
        file.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_flock_a_temporary_file_is_never_taken_for_one_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(atomic.fcntl, "flock", none)
    with atomic_file(tmp_path / "file") as first:
        with atomic_file(tmp_path / "file") as second:
            second.write(b"second")
        first.write(b"first")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("theirs")
    (tmp_path / ".partial-file").symlink_to("outside")
    write_json(tmp_path / "file", {})
    assert (tmp_path / "outside").read_text() == "theirs"


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
