"""Stored results come back whole or not at all, whatever other processes do, and their number is bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprise.storage.result_store import ResultStore


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "store", kept=2)


def result(folder: Path, text: str) -> list[Path]:
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(text + name)
    return [folder / "b", folder / "a"]


def taken(store: ResultStore, key: str, folder: Path) -> dict[str, str] | None:
    folder.mkdir()
    found = store.take(key, folder)
    files = {path.name: path.read_text() for path in folder.iterdir()}
    assert found or not files
    return files if found else None


def test_what_was_kept_is_taken_and_the_longest_unused_goes(store: ResultStore, tmp_path: Path) -> None:
    assert taken(store, "one", tmp_path / "0") is None
    for number, key in enumerate(("one", "two")):
        store.keep(key, result(tmp_path / key, key))
        os.utime(store.folder / key, (number, number))
    assert taken(store, "one", tmp_path / "1") == {"a": "onea", "b": "oneb"}  # used just now
    store.keep("three", result(tmp_path / "three", "three"))
    assert taken(store, "two", tmp_path / "2") is None
    assert taken(store, "one", tmp_path / "3") == {"a": "onea", "b": "oneb"}
    store.keep("one", result(tmp_path / "again", "another"))  # the same inputs: the first result stays
    assert taken(store, "one", tmp_path / "4") == {"a": "onea", "b": "oneb"}
    assert sorted(path.name for path in store.folder.iterdir()) == ["one", "three"]


def test_a_damaged_result_counts_as_absent(store: ResultStore, tmp_path: Path) -> None:
    for number, damage in enumerate(
        (lambda p: os.truncate(p / "a", 1), lambda p: (p / "b").unlink(), lambda p: (p / "sha256").unlink())
    ):
        store.keep("one", result(tmp_path / f"kept{number}", "one"))
        damage(store.folder / "one")
        assert taken(store, "one", tmp_path / f"taken{number}") is None
        for path in store.folder.glob("one/*"):
            path.unlink()


def test_what_cannot_be_stored_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = ResultStore(tmp_path / "file", kept=2)
    store.keep("one", result(tmp_path / "one", "one"))
    assert taken(store, "one", tmp_path / "taken") is None


CROWD = """
import sys
from pathlib import Path
from reprise.storage.result_store import ResultStore
store, own = ResultStore(Path("store"), kept=1), Path(sys.argv[1])
own.mkdir()
(own / "a").write_text("x" * 100_000)
for number in range(60):
    key = str(number % 3)
    store.keep(key, [own / "a"])
    target = own / str(number)
    target.mkdir()
    if store.take(key, target):
        assert (target / "a").read_text() == "x" * 100_000
    else:
        assert not list(target.iterdir())
"""


def test_processes_at_once_never_take_half_a_result(tmp_path: Path, repository: Path) -> None:
    """Four of them store and remove the same three results."""
    env = os.environ | {"PYTHONPATH": str(repository)}
    crowd = [subprocess.Popen([sys.executable, "-c", CROWD, name], cwd=tmp_path, env=env) for name in "abcd"]
    assert [process.wait() for process in crowd] == [0] * 4
    assert len(list((tmp_path / "store").iterdir())) <= 1
