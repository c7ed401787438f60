"""A signal ends a stage even where Python would ignore the exception that it raises."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reprise.storage.running import FOLDER

_IN_A_DESTRUCTOR = """
import time
from reprise.runtime.entry import run_stage

class Slow:
    def __del__(self):
        print("in", flush=True)
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            pass

def main(argv):
    slow = Slow()
    del slow
    time.sleep(60)

run_stage(main)
"""


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_inside_a_destructor_is_not_lost(repository: Path, signum: int, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _IN_A_DESTRUCTOR],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(repository)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    process.send_signal(signum)
    _, said = process.communicate(timeout=30)
    assert process.returncode == status
    assert "`reprise repro` continues" in said
    assert "Exception ignored" not in said
    assert "Traceback" not in said


_HELD_BACK = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from reprise.runtime.entry import run_stage

def swallow():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

def wait_for_threads():
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(time.sleep, [60] * 4))

def decompose():
    import numpy as np
    np.linalg.svd(np.random.default_rng(0).normal(size=(6000, 6000)))

def main(argv):
    print("in", flush=True)
    globals()[argv[0]]()

run_stage(main)
"""


@pytest.mark.parametrize(
    ("held_by", "signum", "status"),
    [
        ("swallow", signal.SIGINT, 130),
        pytest.param("swallow", signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param("wait_for_threads", signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param("decompose", signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param("decompose", signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_nothing_holds_a_signal_back(repository: Path, tmp_path: Path, held_by: str, signum: int, status: int) -> None:
    """A library that catches everything, threads that are waited for, a long call into C."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HELD_BACK, held_by],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signum)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - began < 10  # two seconds, on a machine that has nothing else to do
    assert process.returncode == status
    assert said.count("`reprise repro` continues from the last checkpoint") == 1
    assert len(said.splitlines()) == 1
    assert list((tmp_path / FOLDER).iterdir()) == []
