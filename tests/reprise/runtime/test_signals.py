"""A signal ends a stage even where Python would ignore the exception that it raises."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
