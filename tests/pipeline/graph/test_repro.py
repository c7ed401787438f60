"""What Reprise promises about runs, on the toy graph: reruns, prune, moved rows, repair, one run at a time."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.graph.definition import load_graph
from pipeline.graph.dvc import last_lines
from pipeline.graph.lock_file import fit_lock, read_lock, set_aside_unreadable_lock
from tests.pipeline.dvc_project import Project

ALL = ["pretrain@run0-0", "pretrain@run1-0", "probe@run0-0", "probe@run1-0", "shard", "summary"]
MIDDLE = "  - {name: middle, method: random}\n"


@pytest.fixture(autouse=True)
def _fresh_log(request: pytest.FixtureRequest) -> None:
    if "built" in request.fixturenames:
        assert request.getfixturevalue("built").ran() == ALL


def insert_row(project: Project) -> None:
    project.replace("params.yaml", "  - {name: simclr", MIDDLE + "  - {name: simclr")
    project.replace("params.yaml", "random: {},", "random: {}, middle: {},")


def remove_row(project: Project) -> None:
    project.replace("params.yaml", MIDDLE, "")
    project.replace("params.yaml", " middle: {},", "")


def test_the_sentence_of_an_error_is_kept_however_much_follows_it() -> None:
    error = "error: the archive cannot be downloaded. Found: timed out."
    many = [f"line {i}" for i in range(100)]
    assert last_lines([*many, error, *many]) == [error, *many[60:]]
    assert last_lines([*many, error]) == [*many[61:], error]
    assert last_lines([error, "one"]) == [error, "one"]


def test_a_row_in_the_middle_runs_alone_and_leaves_nothing_when_removed(built: Project) -> None:
    before = built.lock()
    insert_row(built)
    said = built.reprise("repro").stdout
    assert "pretrain@run1-0 -> pretrain@run2-0" in said
    assert built.ran() == ["pretrain@run1-0", "probe@run1-0", "summary"]

    remove_row(built)
    said = built.reprise("repro").stdout
    assert "params.yaml no longer lists them: data/runs/middle/0, data/probe/middle/0/features" in said
    assert built.ran() == []  # summary of the old rows comes back from the run cache
    assert not (built.root / "data/runs/middle").exists()
    assert not (built.root / "data/probe/middle").exists()
    assert built.lock() == before


def test_plain_dvc_restores_shifted_rows_from_its_run_cache(built: Project) -> None:
    insert_row(built)
    built.dvc("--wait-for-lock", "repro")
    assert built.ran() == ["pretrain@run1-0", "probe@run1-0", "summary"]
    assert (built.root / "data/runs/simclr/0/x").exists()


def test_after_prune_dvc_finds_its_lock_as_it_would_have_written_it(built: Project) -> None:
    insert_row(built)
    built.reprise("prune")
    pruned = built.lock()
    assert sorted(read_lock(built.root)) == sorted(
        ["shard", "pretrain@run0-0", "pretrain@run2-0", "probe@run0-0", "probe@run2-0", "summary"]
    )
    built.dvc("repro", "pretrain@run2-0")
    assert built.lock() == pruned
    assert built.ran() == []


def test_prune_leaves_what_is_not_an_output_by_layout(built: Project) -> None:
    built.write("data/runs/notes.txt", "mine")
    built.write("data/runs/gone/0/weights", "old")
    built.write("data/runs/gone/seven/weights", "not a seed")
    built.write("data/elsewhere/gone/0/x", "not a kind")
    (built.root / "outside").mkdir()
    (built.root / "outside/x").write_text("precious")
    (built.root / "data/runs/linked").symlink_to(built.root / "outside", target_is_directory=True)
    said = built.reprise("prune").stdout
    assert "removed, because params.yaml no longer lists them: data/runs/gone/0\n" in said
    foreign = "data/runs/gone/seven, data/runs/linked, data/runs/notes.txt"
    assert f"left alone, because they are not outputs of the graph: {foreign}" in said
    for kept in ("data/runs/notes.txt", "data/runs/gone/seven/weights", "data/elsewhere/gone/0/x", "outside/x"):
        assert (built.root / kept).exists(), kept
    assert not (built.root / "data/runs/gone/0").exists()


def test_an_unreadable_lock_is_set_aside_and_the_run_cache_restores(built: Project) -> None:
    whole = built.lock()
    (built.root / "dvc.lock").write_bytes(whole[: len(whole) // 2] + b"\n  : {")
    (built.root / "dvc.lock.broken-1").write_text("an earlier one")
    said = built.reprise("repro").stdout
    assert "dvc.lock was unreadable and is now dvc.lock.broken-2" in said
    assert built.ran() == []
    assert built.lock() == whole


def test_any_cut_of_the_lock_is_either_readable_or_set_aside(built: Project) -> None:
    whole = built.lock()
    path = built.root / "dvc.lock"
    for cut in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:cut])
        aside = set_aside_unreadable_lock(built.root)
        assert path.exists() is (aside is None)
        read_lock(built.root)
        if aside:
            aside.unlink()


def test_stale_locks_of_dead_processes_are_cleared(built: Project) -> None:
    built.write(
        ".dvc/tmp/rwlock", json.dumps({"write": {"data/runs/simclr/0": {"pid": 2**22 + 1, "cmd": "dvc repro"}}})
    )
    built.replace("methods/simclr.py", "2", "3")
    assert f"removed stale locks of processes that have ended ({2**22 + 1})" in built.reprise("repro").stdout
    assert "pretrain@run1-0" in built.ran()
    built.write(".dvc/tmp/rwlock", '{"write": {"data')
    assert "was unreadable after a kill and has been removed" in built.reprise("repro").stdout


def test_a_recycled_pid_does_not_hold_a_lock(built: Project) -> None:
    """This very process lives, but it is not a DVC."""
    built.write(".dvc/tmp/rwlock", json.dumps({"read": {"data/shards": [{"pid": os.getppid(), "cmd": "dvc repro"}]}}))
    assert "removed stale locks" in built.reprise("repro").stdout


def test_two_at_once_one_gives_up_with_a_sentence(toy: Project) -> None:
    toy.write(".reprise/repro.lock", "process 12345\n")
    with (toy.root / ".reprise/repro.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = toy.reprise("repro", check=False)
    assert refused.returncode == 4
    assert "another run works in this folder" in refused.stderr
    assert "process 12345" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert toy.ran() == []


def test_wrong_parameters_stop_before_dvc_and_once_valid_are_not_asked_again(built: Project) -> None:
    built.replace("params.yaml", "rate: 0.1", "rate: wrong")
    refused = built.reprise("repro", check=False)
    assert refused.returncode == 2
    assert refused.stderr == "error: 1 wrong parameter\n"
    assert built.ran() == []
    built.replace("params.yaml", "rate: wrong", "rate: 0.1")
    built.write("stages/check.py", "raise SystemExit('asked again')\n")
    assert built.reprise("repro", check=False).returncode == 1  # the code that judges changed, so it is asked


def test_a_failed_stage_speaks_for_itself(built: Project) -> None:
    built.write("methods/simclr.py", "fail")
    failed = built.reprise("repro", check=False)
    assert failed.returncode != 0
    assert "error: the toy was told to fail" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert (built.root / "data/probe/random/0/features/x").exists()


def test_targets_by_name(toy: Project) -> None:
    toy.reprise("repro", "pretrain/simclr")
    assert toy.ran() == ["pretrain@run1-0", "shard"]


def test_an_entry_whose_command_was_reworded_is_kept_for_dvc_to_judge(built: Project) -> None:
    built.replace("dvc.yaml", "cmd: python -m stages.work data/shards", "cmd: python -m stages.work  data/shards")
    assert fit_lock(load_graph(built.root), built.root) == ([], [])


def test_the_lock_has_one_order_whatever_order_dvc_ran_in(built: Project) -> None:
    before = built.lock().decode()
    head, *entries = re.split(r"(?m)^(?=  \S)", before)
    built.write("dvc.lock", head + "".join(reversed(entries)))
    built.reprise("repro")
    assert built.ran() == []
    assert built.lock().decode() == before
    assert [line[2:-1] for line in before.splitlines() if re.match(r"  \S.*:$", line)] == list(
        load_graph(built.root).by_name
    )


def test_nothing_is_written_when_nothing_changed(built: Project) -> None:
    stamp = (built.root / "dvc.lock").stat().st_mtime_ns
    built.reprise("repro")
    assert (built.root / "dvc.lock").stat().st_mtime_ns == stamp
    assert built.ran() == []


def test_outside_a_project(tmp_path: Path) -> None:
    refused = Project(tmp_path).reprise("why", check=False)
    assert refused.returncode == 1
    assert "this is not a Reprise project" in refused.stderr
    assert sys.executable not in refused.stderr


def test_plain_dvc_refuses_a_broken_lock_and_names_it(built: Project) -> None:
    """What docs/how-to/after-a-kill.md quotes; `reprise repro` repairs the file, as tested above."""
    whole = built.lock()
    (built.root / "dvc.lock").write_bytes(whole[: len(whole) // 2] + b"\n  : {")
    refused = built.dvc("repro", check=False)
    assert refused.returncode != 0
    assert "dvc.lock' is invalid" in refused.stderr
    assert built.ran() == []
    built.reprise("repro")
    assert built.lock() == whole


def test_two_started_at_the_same_moment_do_everything_once(toy: Project) -> None:
    """One waits for the other; without --wait one gives up. Either way each stage runs once."""
    with ThreadPoolExecutor(2) as pool:
        done = [each.result() for each in [pool.submit(toy.reprise, "repro", "--wait") for _ in range(2)]]
    assert sorted("waiting for another run" in each.stdout for each in done) == [False, True]
    assert toy.ran() == ALL
    toy.replace("methods/simclr.py", "2", "3")
    with ThreadPoolExecutor(2) as pool:
        done = [each.result() for each in [pool.submit(toy.reprise, "repro", check=False) for _ in range(2)]]
    assert 0 in [each.returncode for each in done]
    refused = [each for each in done if each.returncode]
    assert all("another run works in this folder" in each.stderr for each in refused)
    assert sorted(toy.ran()).count("pretrain@run1-0") == 1
