"""Outputs of the previous run: kept until there are new ones, and back in their place when a stage does not finish."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline.graph.previous_outputs import PREVIOUS, UNFINISHED, forget, put_back, set_aside
from pipeline.processes.commands import environment, is_running
from tests.pipeline.dvc_project import REPRISE, Project, wait_for

OUT = "data/runs/simclr/0"
DEAD = 2**22 + 1  # no process has this number


def place(root: Path, text: str, path: str = OUT) -> Path:
    file = root / path / "x"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def aside_of_dead_process(root: Path, output: str = OUT) -> None:
    assert set_aside(output, root)
    (root / PREVIOUS / str(os.getpid())).rename(root / PREVIOUS / str(DEAD))


def test_what_a_stage_did_not_replace_comes_back(tmp_path: Path) -> None:
    file, said = place(tmp_path, "earlier"), []
    aside_of_dead_process(tmp_path)
    assert not file.parent.exists()
    put_back(tmp_path, said.append)
    assert file.read_text() == "earlier"
    assert "put back, because the stage did not finish: data/runs/simclr/0." in said[0]
    assert "previous run" in said[0]
    assert list((tmp_path / PREVIOUS).iterdir()) == []
    put_back(tmp_path, said.append)
    assert len(said) == 1


def test_what_a_failed_command_left_is_kept_apart(tmp_path: Path) -> None:
    file, said = place(tmp_path, "earlier"), []
    aside_of_dead_process(tmp_path)
    place(tmp_path, "half")
    put_back(tmp_path, said.append)
    assert file.read_text() == "earlier"
    assert (tmp_path / UNFINISHED / quote(OUT, safe="") / "x").read_text() == "half"
    assert ".reprise/unfinished" in said[1]
    assert set_aside(OUT, tmp_path)  # the next run of the stage begins
    assert list((tmp_path / UNFINISHED).iterdir()) == []


def test_new_outputs_end_the_wait_of_earlier_ones(tmp_path: Path) -> None:
    place(tmp_path, "earlier")
    place(tmp_path, "other", "data/other")
    assert set_aside(OUT, tmp_path)
    assert set_aside("data/other", tmp_path)
    place(tmp_path, "new")
    forget([OUT, "data/other"], tmp_path)
    assert [path.name for path in (tmp_path / PREVIOUS).glob("*/*")] == ["data%2Fother"]  # not made: DVC refuses that


def test_what_a_living_dvc_set_aside_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place(tmp_path, "earlier")
    aside_of_dead_process(tmp_path)
    monkeypatch.setattr("pipeline.graph.previous_outputs.is_running", lambda pid, word: pid == DEAD)
    put_back(tmp_path, print)
    assert not file.exists()


@pytest.mark.parametrize("output", ["../elsewhere", "/etc/hosts", ".reprise/work", "data/missing"])
def test_other_places_are_left_to_dvc(tmp_path: Path, output: str) -> None:
    root = tmp_path / "project"
    root.mkdir()
    place(tmp_path, "precious", "elsewhere")
    assert not set_aside(output, root)
    hostile = root / PREVIOUS / str(DEAD) / quote(output, safe="")
    place(root, "x", hostile.relative_to(root).as_posix())
    put_back(root, lambda line: None)
    assert (tmp_path / "elsewhere/x").read_text() == "precious"
    assert hostile.exists() is (output != "data/missing")


@pytest.mark.slow
def test_a_failed_run_leaves_the_previous_outputs_and_why_says_that_they_are_old(built: Project) -> None:
    earlier = (built.root / OUT / "x").read_text()
    recorded = built.lock()
    built.replace("methods/simclr.py", "2", "fail")
    done = built.reprise("repro", check=False)
    assert done.returncode
    assert (built.root / OUT / "x").read_text() == earlier
    assert f"put back, because the stage did not finish: {OUT}." in done.stdout
    assert built.lock() == recorded
    assert "methods/simclr.py changed" in built.reprise("why").stdout
    built.replace("methods/simclr.py", "fail", "3")
    built.reprise("repro")
    assert (built.root / OUT / "x").read_text() == f"{OUT}: 3"
    assert list((built.root / PREVIOUS).iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_the_previous_outputs(built: Project, number: signal.Signals) -> None:
    earlier = (built.root / OUT / "x").read_text()
    built.replace("methods/simclr.py", "2", "sleep")
    run = subprocess.Popen(
        [*REPRISE, "repro"], cwd=built.root, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for((built.root / "sleeping").exists)
    assert not (built.root / OUT).exists()
    run.send_signal(number)
    began = time.monotonic()
    run.wait(60)
    if number == signal.SIGKILL:
        stage = int((built.root / "sleeping").read_text())
        os.kill(stage, signal.SIGKILL)  # a stage of the real graph ends with its parent
        wait_for(lambda: not any(is_running(int(p.name), "dvc") for p in (built.root / PREVIOUS).iterdir()))
        built.replace("methods/simclr.py", "sleep", "2")  # as recorded: nothing would run
        built.reprise("repro")
    else:
        assert time.monotonic() - began < 10
    assert (built.root / OUT / "x").read_text() == earlier


def test_dvc_moves_outputs_aside_before_a_command(built: Project) -> None:
    earlier = (built.root / OUT / "x").read_text()
    built.write("methods/simclr.py", "fail")
    stage = "pretrain@run1-0"
    call = [sys.executable, "-P", "-m", "pipeline.graph.in_dvc", "repro", "--single-item", stage]
    assert built.call(*call, check=False).returncode
    assert not (built.root / OUT).exists()
    (aside,) = (built.root / PREVIOUS).glob("*/*")
    assert aside.name == quote(OUT, safe="")
    assert (aside / "x").read_text() == earlier
