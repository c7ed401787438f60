"""An existing signal handler stays in place, and what it raises is raised after the command has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.pipeline.dvc_project import wait_for

_DRIVER = """
import signal, sys
from pipeline.processes.commands import run

class Interrupted(BaseException): pass

def interrupt(signum, frame): raise Interrupted

signal.signal(signal.SIGTERM, interrupt)
lines = []
def note(line):
    open(sys.argv[1], "a").write(f"{line} {signal.getsignal(signal.SIGTERM) is interrupt}\\n")
try:
    run([sys.executable, "-c", sys.argv[2]], on_line=note)
except Interrupted:
    sys.exit(7)
"""
_STAGE = """
import os, signal, sys, time
def end(signum, frame):
    time.sleep(0.5)
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print(os.getpid(), flush=True)
time.sleep(600)
"""


def test_an_existing_handler_takes_effect_after_the_command_has_ended(tmp_path: Path, repository: Path) -> None:
    notes = tmp_path / "notes"
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(notes), _STAGE], cwd=repository, env={**os.environ}, start_new_session=True
    )
    stage = psutil.Process(int(wait_for(lambda: notes.exists() and notes.read_text(), 60).split()[0]))
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(timeout=60) == 7
    assert not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE
    assert [line.split() for line in notes.read_text().splitlines()] == [[str(stage.pid), "True"], ["saved", "True"]]
