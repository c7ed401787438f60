"""`reprise repro --jobs` on a toy graph with real DVCs: the same dvc.lock, failures, repairs, and what is shown."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from pipeline.graph.jobs.loaded_dvc import loaded_dvc
from pipeline.processes.commands import CommandFailed
from tests.faults.killing import family, held_locks, leftovers, words
from tests.pipeline.dvc_project import REPRISE, Project, wait_for

ROWS = 3
PARAMS = f"""
seeds: [0, 1]
runs:
{"".join(f"  - {{name: r{n}, method: random}}{chr(10)}" for n in range(ROWS))}
train: {{rate: 0.1}}
methods: {{{", ".join(f"r{n}: {{}}" for n in range(ROWS))}}}
"""
_DELAY = "import random, time\ntime.sleep(random.uniform(0, 1.5))\n"


@pytest.fixture
def wide(toy: Project) -> Project:
    """A toy of which many stages can run at once."""
    toy.write("params.yaml", PARAMS)
    return toy


def repro(project: Project, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return project.reprise("repro", *options, check=check)


def test_a_loaded_dvc_runs_what_it_is_told_and_passes_statuses_on(built: Project) -> None:
    lines: list[str] = []
    aside: list[str] = []
    built.replace("methods/random.py", "1", "sleep")
    with loaded_dvc(built.root) as loaded:

        def run(*arguments: str, cancelled: threading.Event) -> int:
            return loaded.run(arguments, on_each_line=(lines.append, aside.append), cancelled=cancelled)

        never, soon = threading.Event(), threading.Event()
        assert run("repro", "--single-item", "pretrain@run1-0", cancelled=never) == 0
        assert lines == ["Stage 'pretrain@run1-0' didn't change, skipping", "Data and pipelines are up to date."]
        assert run("repro", "--single-item", "nonsense", cancelled=never) == 255
        assert any("nonsense" in line for line in aside)
        threading.Timer(1.0, soon.set).start()
        assert run("repro", "--single-item", "pretrain@run0-0", cancelled=soon) in (128 + signal.SIGTERM, 255)
        (holder,) = [p for p in family(built.root) if "--stages-from" in words(p)]
        holder.kill()
        holder.wait(10)
        with pytest.raises(CommandFailed, match="ended with status 1"):
            run("repro", "--single-item", "pretrain@run1-0", cancelled=never)
    assert family(built.root) == []


@pytest.mark.slow
def test_the_same_lock_whatever_the_number_of_jobs_and_the_order(wide: Project) -> None:
    """Each job takes a random time, so that stages end in another order each time."""
    wide.write("stages/work.py", _DELAY + (wide.root / "stages/work.py").read_text())
    wide.write("source.lock.json", "{}")  # as the scan of the toy writes it
    wide.dvc("repro")  # the order of entries depends on Python's hash seed, and a run that does nothing sorts them
    repro(wide, "--jobs", "1")
    want, ran = wide.lock(), wide.ran()
    assert len(ran) == 2 + 2 * 2 * ROWS
    for jobs in ("1", "2", "4", "4", "2"):
        for name in (".dvc/cache", ".dvc/tmp", ".reprise", "data/runs", "data/probe", "data/shards", "data/summary"):
            wide.call("rm", "-rf", name)
        (wide.root / "dvc.lock").unlink()
        said = repro(wide, "--jobs", jobs).stdout
        assert wide.lock() == want, jobs
        assert wide.ran() == ran
        assert leftovers(wide.root) == []
        if jobs != "1":
            assert re.search(r"(?m)^stage 14 of 14, summary$", said)
    assert "Running stage" not in wide.dvc("repro").stdout


@pytest.mark.slow
def test_what_fails_leaves_the_others_going_or_ends_them(wide: Project) -> None:
    wide.write("params.yaml", PARAMS.replace("name: r1, method: random", "name: r1, method: simclr"))
    wide.write("methods/simclr.py", "fail")
    others = [f"{stage}@run{run}-{seed}" for stage in ("pretrain", "probe") for run in (0, 2) for seed in (0, 1)]
    failing = ["pretrain@run1-0", "pretrain@run1-1"]
    failed = repro(wide, "--jobs", "3", check=False)
    assert failed.returncode == 1
    assert "pretrain r1 seed 0 | error: the toy was told to fail" in failed.stderr
    assert failed.stderr.splitlines()[-3:] == [
        "failed: pretrain r1 seed 0; error: the toy was told to fail",
        "failed: pretrain r1 seed 1; error: the toy was told to fail",
        "not run, because they depend on it: probe r1 seed 0, probe r1 seed 1, summary",
    ]
    assert wide.ran() == sorted([*others, *failing, "shard"])
    assert repro(wide, "--jobs", "1", check=False).returncode != 0
    assert wide.ran() == failing  # in one DVC, the second does not wait for the first to succeed either

    wide.write("methods/random.py", "sleep")
    began = time.monotonic()
    assert repro(wide, "--jobs", "3", "--fail-fast", check=False).returncode != 0
    assert time.monotonic() - began < 60
    assert family(wide.root) == []
    wide.write("methods/simclr.py", "2")
    wide.write("methods/random.py", "1")
    repro(wide, "--jobs", "3")
    assert leftovers(wide.root) == []


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_driver_ends_all_stages(wide: Project, signum: int) -> None:
    wide.write("params.yaml", PARAMS.replace("method: random", "method: simclr"))
    wide.write("methods/simclr.py", "sleep")
    wide.write("stages/work.py", _WITH_WATCHDOG + (wide.root / "stages/work.py").read_text())
    driver = subprocess.Popen(
        [*REPRISE, "repro", "--jobs", "3"], cwd=wide.root, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    wait_for(lambda: driver.poll() is not None or len(wide_sleepers(wide.root)) == 3)
    status = wide.reprise("status").stdout
    assert "r0 seed 0" in status and "r1 seed 0" in status
    os.kill(driver.pid, signum)
    _, said = driver.communicate(timeout=20)
    assert driver.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(signal.Signals(signum), -signum)
    wait_for(lambda: not family(wide.root), 10)
    assert held_locks(wide.root) == []
    assert ("the same command continues from here" in said) == (signum != signal.SIGKILL)
    wide.write("methods/simclr.py", "2")
    repro(wide, "--jobs", "3")
    assert leftovers(wide.root) == []


def wide_sleepers(root: Path) -> list[object]:
    return [process for process in family(root) if words(process)[:2] == ["-m", "stages.work"]]


_WITH_WATCHDOG = "from reprise.runtime.entry import prepare_process\nprepare_process()\n"
