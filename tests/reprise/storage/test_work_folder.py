"""Work folders: one worker at a time, kept after failure, removed after success, refused for other inputs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from reprise.config.errors import CheckpointError, StorageError, WorkspaceBusyError
from reprise.runtime.watchdog import EVERY_SECONDS, GRACE_SECONDS
from reprise.storage import work_folder as contract
from reprise.storage.atomic import write_json
from reprise.storage.code.fingerprint import fingerprint
from reprise.storage.provenance import libraries
from reprise.storage.work_folder import (
    INPUTS,
    PATIENCE_SECONDS,
    check_inputs,
    difference,
    file_digest,
    locked,
    work_folder,
)

CODE = ["reprise.storage.atomic"]  # any module


def interrupt(name, inputs, root, state):
    """Leave unfinished work behind."""
    with suppress(KeyboardInterrupt), work_folder(name, inputs, CODE, root=root) as folder:
        (folder / "state").write_text(state)
        raise KeyboardInterrupt


def test_kept_after_failure_and_removed_after_success(tmp_path):
    interrupt("a/b", {"x": 1}, tmp_path, "half")
    with work_folder("a/b", {"x": 1}, CODE, root=tmp_path) as folder:
        assert (folder / "state").read_text() == "half"
    assert not (tmp_path / "a/b").exists()


def test_other_inputs_start_afresh_and_say_what_differs(tmp_path, capsys):
    interrupt("w", {"train": {"rate": 0.1}, "seed": 0}, tmp_path, "old")
    with work_folder("w", {"train": {"rate": 0.2}, "seed": 0}, CODE, root=tmp_path) as folder:
        assert not (folder / "state").exists()
    said = capsys.readouterr().err
    assert said.startswith("leaving unfinished work on other inputs in")
    assert "train.rate: 0.1 -> 0.2" in said
    assert not (tmp_path / "w").exists()


def test_whoever_changes_back_finds_the_work_again_of_the_last_three_inputs(tmp_path, capsys):
    for number in range(4):
        interrupt("w", {"x": number}, tmp_path, f"work {number}")
        for folder in (tmp_path / "w").iterdir():  # its time must differ from that of the next
            os.utime(folder, ns=(0, folder.stat().st_mtime_ns - 10**9))
    assert capsys.readouterr().err.count("discarding") == 1
    for number in (3, 2, 1):
        with suppress(KeyboardInterrupt), work_folder("w", {"x": number}, CODE, root=tmp_path) as folder:
            assert (folder / "state").read_text() == f"work {number}"
            raise KeyboardInterrupt
    with suppress(KeyboardInterrupt), work_folder("w", {"x": 0}, CODE, root=tmp_path) as folder:
        assert not (folder / "state").exists()
        raise KeyboardInterrupt
    with work_folder("w", {"x": 0}, CODE, restart=True, root=tmp_path) as folder:
        assert [p.name for p in (tmp_path / "w").iterdir() if p.is_dir()] == [folder.name]


@pytest.mark.parametrize("what", ["code", "libraries"])
def test_work_by_other_code_or_libraries_is_not_used(tmp_path, monkeypatch, capsys, what):
    interrupt("w", {"x": 1}, tmp_path, "old")
    if what == "code":
        monkeypatch.setattr(contract, "fingerprint", lambda code: fingerprint(code) | {"more.py": {"f": "0"}})
    else:
        monkeypatch.setattr(contract, "libraries", lambda: libraries() | {"numpy": "1.0"})
    with work_folder("w", {"x": 1}, CODE, root=tmp_path) as folder:
        assert not (folder / "state").exists()
    said = {"code": "code: more.py (new)", "libraries": "libraries.numpy"}[what]
    assert said in capsys.readouterr().err


def test_a_folder_that_its_user_lost_and_could_not_do_without_is_a_sentence(tmp_path):
    def work(use):
        with work_folder("w", {"x": 1}, CODE, root=tmp_path) as folder:
            shutil.rmtree(tmp_path)
            use(folder)

    with pytest.raises(StorageError, match=r"the work folder was removed while a stage worked in it.*Run again"):
        work(lambda folder: (folder / "state").write_text("half"))
    work(lambda folder: write_json(folder / "state", {}))  # a checkpoint makes the folder again
    assert not (tmp_path / "w").exists()
    work(lambda folder: None)
    with pytest.raises(FileNotFoundError, match="elsewhere"), work_folder("w", {"x": 1}, CODE, root=tmp_path):
        (tmp_path / "elsewhere").read_text()


def test_restart_discards(tmp_path):
    interrupt("w", {"x": 1}, tmp_path, "old")
    with work_folder("w", {"x": 1}, CODE, restart=True, root=tmp_path) as folder:
        assert not (folder / "state").exists()


def test_a_moved_checkpoint_of_other_inputs_is_refused(tmp_path):
    (tmp_path / INPUTS).write_text(json.dumps({"seed": 1, "train": {"epochs": 3}}))
    with pytest.raises(CheckpointError, match=r"other inputs.*seed: 1 -> 2.*--restart"):
        check_inputs(tmp_path, {"seed": 2, "train": {"epochs": 3}})
    (tmp_path / INPUTS).write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        check_inputs(tmp_path, {})


HOLDER = (
    "import sys, pathlib\nfrom reprise.storage.work_folder import work_folder\n"
    "with work_folder('w', {'x': 1}, ['reprise.storage.atomic'], root=pathlib.Path(sys.argv[1])):\n"
    "    print('in', flush=True); sys.stdin.read()"
)


@pytest.fixture
def holder(tmp_path, repository):
    """A process that works in the folder `w` until it is told to end."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(repository)},
    )
    assert other.stdout.readline() == "in\n"
    yield other
    other.kill()
    other.communicate()


@pytest.mark.parametrize("remove", ["all of it", "the entry"])
def test_removing_the_folder_does_not_free_it(tmp_path, holder, monkeypatch, remove):
    monkeypatch.setattr(contract, "PATIENCE_SECONDS", 0.2)
    shutil.rmtree(tmp_path if remove == "all of it" else tmp_path / "w")
    with pytest.raises(WorkspaceBusyError, match=rf"process {holder.pid}: "), locked(tmp_path / "w"):
        pass
    with locked(tmp_path / "another"):  # others are not in the way
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path / "w"):
        pass


def test_another_process_is_turned_away_and_a_dead_one_is_not_in_the_way(tmp_path, holder, capsys, monkeypatch):
    monkeypatch.setattr(contract, "PATIENCE_SECONDS", 0.2)
    with (
        pytest.raises(WorkspaceBusyError, match=rf"process {holder.pid}: python -c import sys"),
        locked(tmp_path / "w"),
    ):
        pass
    assert f"held by process {holder.pid}: python -c" in capsys.readouterr().err
    holder.kill()
    holder.wait()
    with work_folder("w", {"x": 1}, CODE, root=tmp_path):
        pass
    assert capsys.readouterr().err == ""


def test_one_that_is_just_ending_is_waited_for(tmp_path, holder, capsys):
    threading.Timer(0.5, holder.kill).start()
    with work_folder("w", {"x": 1}, CODE, root=tmp_path):
        assert holder.wait(timeout=10) == -signal.SIGKILL
    assert f"waiting {PATIENCE_SECONDS:.0f} s" in capsys.readouterr().err


def test_the_patience_outlasts_a_stage_whose_parent_was_killed():
    assert PATIENCE_SECONDS > EVERY_SECONDS + GRACE_SECONDS + 1


def test_difference_and_digest(tmp_path):
    assert difference({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}, "d": 4}) == ["b.c: 2 -> 3", "d: None -> 4"]
    (tmp_path / "one").write_text("ab")
    (tmp_path / "two").write_text("c")
    before = file_digest(tmp_path)
    (tmp_path / "one").write_text("a")
    (tmp_path / "two").write_text("bc")
    assert file_digest(tmp_path) != before
    (tmp_path / "__pycache__").mkdir()
    changed = file_digest(tmp_path)
    (tmp_path / "__pycache__" / "x.pyc").write_text("noise")
    assert file_digest(tmp_path) == changed
