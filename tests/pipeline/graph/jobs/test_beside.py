"""Several DVCs in one folder: what one writes is whole for the others at every moment."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import dvc.lock
import dvc.rwlock
import pytest
from dvc.dvcfile import modify_yaml
from dvc.fs import localfs

from pipeline.graph.in_dvc.beside import look_often, replace_whole_file, replace_whole_notes

LOCK = "schema: '2.0'\nstages:\n  a:\n    cmd: make a\n"


def test_the_lock_file_changes_at_once_and_in_dvcs_own_form(tmp_path: Path) -> None:
    path, plain = tmp_path / "dvc.lock", tmp_path / "plain.lock"
    for each in (path, plain):
        each.write_text(LOCK)
    with modify_yaml(str(plain), fs=localfs) as content:
        content["stages"]["b"] = {"cmd": "make b"}
    with replace_whole_file(modify_yaml)(str(path), fs=localfs) as content:
        content["stages"]["b"] = {"cmd": "make b"}
        assert path.read_text() == LOCK
    assert path.read_bytes() == plain.read_bytes() != LOCK.encode()
    assert [each.name for each in tmp_path.iterdir() if "partial" in each.name] == []


def test_a_lock_file_whose_writing_fails_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    path.write_text(LOCK)
    with pytest.raises(Exception, match="represent"), replace_whole_file(modify_yaml)(str(path)) as content:
        content["stages"]["b"] = object()
    assert path.read_text() == LOCK
    assert [each.name for each in tmp_path.iterdir()] == ["dvc.lock"]


def test_notes_whose_writing_fails_stay_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit, path = replace_whole_notes(dvc.rwlock._edit_rwlock), tmp_path / "rwlock"
    with edit(str(tmp_path), localfs, False) as notes:
        notes["write"]["data/a"] = {"pid": 7, "cmd": "dvc repro"}
    before = path.read_bytes()
    assert json.loads(before)["write"] == {"data/a": {"pid": 7, "cmd": "dvc repro"}}

    def dump_half(content: object, file: object) -> None:
        file.write("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(dvc.rwlock.json, "dump", dump_half)
    with pytest.raises(KeyboardInterrupt), edit(str(tmp_path), localfs, False):
        pass
    assert path.read_bytes() == before


def test_who_waits_for_the_lock_gets_it_soon_after_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (dvc.lock.Lock(str(tmp_path / "lock"), wait=wait) for wait in (True, True, False))
    take = look_often(dvc.lock.Lock.lock)
    take(first)
    monkeypatch.setattr(dvc.lock, "DEFAULT_TIMEOUT", 0.0)
    with pytest.raises(dvc.lock.LockError):
        take(third)
    threading.Timer(0.1, first.unlock).start()
    began = time.monotonic()
    take(second)
    assert 0.05 < time.monotonic() - began < 5
    second.unlock()
