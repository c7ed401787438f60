"""Ctrl-C ends every command and every stage soon: one sentence, status 130, no traceback, nothing half-written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.graph.running.words import NOTHING, report_running
from pipeline.processes.commands import environment
from reprise.storage.running import FOLDER
from tests.pipeline.dvc_project import REPRISE, Project, wait_for
from tests.pipeline.real_project import edit_params

_SECONDS = 10.0  # two, on a machine that has nothing else to do
_PLAN = "name: t\ngrid: {methods.simclr.temperature: [0.1, 0.2]}\nmetric: knn.top1\n"
STAGES = {
    "check": ["stages.check"],
    "ingest": ["stages.ingest"],
    "validate": ["stages.validate"],
    "shard": ["stages.shard"],
    "train_models": ["stages.models.train", "--seed", "0", "--restart"],
    "features": ["stages.mine.features", "--name", "dae", "--seed", "0", "--restart"],
    "mine": ["stages.mine", "--name", "dae_kmeans", "--seed", "0", "--restart"],
    "pretrain": ["stages.pretrain", "--run", "gsimclr", "--seed", "0", "--restart"],
    "embed": ["stages.embed", "--run", "gsimclr", "--seed", "0", "--restart"],
    "probe": ["stages.probe", "--run", "gsimclr", "--seed", "0"],
    "representations": ["stages.probe.representations"],
    "summary": ["stages.summary"],
    "report": ["stages.report"],
}


def start(project: Project, command: tuple[str, ...]) -> subprocess.Popen[str]:
    """Start a command in a session of its own, as a terminal does."""
    return subprocess.Popen(
        command,
        cwd=project.root,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def interrupt(process: subprocess.Popen[str]) -> str:
    """Send SIGINT to a command as a terminal does, and return what it then said on stderr."""
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert time.monotonic() - began < _SECONDS
    return said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sleeps"),
    [
        (("repro",), lambda root: (root / "sleeping").exists()),
        (("sweep", "plan.yaml"), lambda root: any(root.glob(".reprise/sweeps/*/tree/sleeping"))),
        (("flows", "run", "reproduce"), lambda root: (root / "sleeping").exists()),
    ],
)
def test_a_command_that_runs_stages_ends_with_them(
    toy: Project, arguments: tuple[str, ...], sleeps: Callable[[Path], bool]
) -> None:
    # The stage of the toy would print a traceback; the real ones are below.
    toy.replace(
        "stages/work.py",
        "import json",
        "import signal; signal.signal(signal.SIGINT, lambda *_: sys.exit(130))\nimport json",
    )
    toy.write("input.txt", "sleep")
    toy.write("plan.yaml", _PLAN)
    toy.call("git", "config", "user.name", "x")
    toy.call("git", "config", "user.email", "x@example.org")
    toy.commit()
    process = start(toy, (*REPRISE, *arguments))
    wait_for(lambda: sleeps(toy.root))
    said = interrupt(process)
    assert process.returncode == 130
    assert said.endswith("interrupted: the same command continues from here\n")
    assert "Traceback" not in said
    assert toy.reprise("status").stdout == "Nothing runs in this project.\n"


@pytest.mark.slow
def test_a_command_that_waits_ends(toy: Project) -> None:
    toy.write("input.txt", "sleep")
    first = start(toy, (*REPRISE, "repro"))
    wait_for((toy.root / "sleeping").exists)
    second = start(toy, (*REPRISE, "repro", "--wait"))
    time.sleep(3)
    said = interrupt(second)
    assert second.returncode == 130
    assert said == "interrupted: the same command continues from here\n"
    assert "stage 1 of 6, shard" in toy.reprise("status").stdout  # the first one goes on
    interrupt(first)


@pytest.mark.slow
def test_a_command_ends_while_it_is_still_loading(toy: Project) -> None:
    process = start(toy, (*REPRISE, "status"))
    time.sleep(0.3)
    said = interrupt(process)
    assert process.returncode in (130, 0)
    assert "Traceback" not in said


@pytest.mark.slow
def test_every_stage_ends_at_any_moment_and_changes_nothing(real: Project) -> None:
    before = outputs(real.root)
    for name, words in STAGES.items():
        for seconds in (0.1, 1.0):
            process = start(real, (sys.executable, "-P", "stages/run.py", *words))
            file = real.root / FOLDER / f"{process.pid}.json"
            while not file.exists() and process.poll() is None:
                time.sleep(0.02)
            time.sleep(seconds)
            if process.poll() is None:
                over = not file.exists()  # its work is done, and Python, which takes itself down, hears no signal
                said = interrupt(process)
                allowed = (130, 0, -signal.SIGINT) if over else (130, 0)  # it may just have been done
                assert process.returncode in allowed, (name, said)
                assert "Traceback" not in said, (name, said)
                last = said.splitlines()[-1:] if process.returncode == 130 else []
                assert all(line.startswith("interrupted: ") for line in last), (name, said)
            else:
                process.communicate()
            assert not file.exists(), name
    assert outputs(real.root) == before


@pytest.mark.slow
def test_a_training_tells_how_far_it_is(real: Project) -> None:
    """DVC started by hand counts nothing, and the training does."""
    edit_params(real, train__epochs=200)
    process = start(real, (sys.executable, "-m", "dvc", "repro", "pretrain"))
    try:
        line = wait_for(lambda: next((w for w in report_running(real.root).lines() if "epoch " in w), None))
        above = report_running(real.root).lines()[0]
    finally:
        interrupt(process)
    assert line.startswith("  pretrain gsimclr seed 0 (process ")
    assert re.search(r"; [\d,]+ of [\d,]+ images \(\d+ %\), epoch \d+ of 200, step .*; about .* left$", line)
    assert above.startswith(f"dvc repro pretrain (process {process.pid}): since ")
    assert re.search(r"; stage \d+ of the \d+ of the graph, pretrain gsimclr seed 0; at least .* left$", above)
    assert report_running(real.root).lines() == [NOTHING]


def outputs(root: Path) -> dict[str, bytes]:
    """The bytes of everything in data, less Great Expectations' pages, which are no output."""
    files = [path for path in sorted((root / "data").rglob("*")) if path.is_file()]
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in files
        if not path.is_relative_to(root / "data/validation_docs") and path.name != "provenance.js"
    }
