"""How a stage's process starts and ends."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reprise.runtime.entry import container_cores, cores, threads, workers

ROOT = Path(__file__).parents[3]


def run(repository, body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = f"from reprise.runtime.entry import run_stage\n{body}"
    settings = {"PYTHONPATH": str(repository), "PATH": os.environ["PATH"], **environment}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=settings, timeout=60)


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("nonsense", 8), (None, 8)]
)
def test_a_containers_quota_bounds_the_threads(tmp_path, text, expected):
    file = tmp_path / "cpu.max"
    if text is not None:
        file.write_text(text)
    assert container_cores(file, 8) == expected


def test_threads_can_be_set_and_do_not_depend_on_the_machine_otherwise(monkeypatch):
    monkeypatch.setattr("reprise.runtime.entry.cores", lambda: 16)
    monkeypatch.setenv("REPRISE_THREADS", "3")
    assert (threads(), workers()) == (3, 3)
    monkeypatch.setenv("REPRISE_THREADS", "all")
    assert (threads(), workers()) == (1, 16)


def test_a_share_of_the_cores_bounds_workers_and_no_threads(monkeypatch):
    monkeypatch.setattr("reprise.runtime.entry.cores", lambda: 16)
    monkeypatch.delenv("REPRISE_THREADS", raising=False)
    for share, expected in (("2", 2), ("64", 16), ("", 16), ("all", 16)):
        monkeypatch.setenv("REPRISE_WORKERS", share)
        assert (threads(), workers()) == (1, expected)
    monkeypatch.setenv("REPRISE_WORKERS", "2")
    monkeypatch.setenv("REPRISE_THREADS", "3")
    assert (threads(), workers()) == (3, 3)


def test_there_is_a_core_and_no_more_than_the_machine_has():
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's allocator")
@pytest.mark.parametrize(
    ("setting", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}, False)]
)
def test_freed_memory_is_kept_unless_the_user_set_the_allocator(repository, setting, kept):
    body = (
        "import resource\n"
        "def main(argv):\n"
        "    bytearray(1 << 25)\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(5): bytearray(1 << 25)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
        "run_stage(main)"
    )
    done = run(repository, body, **setting)
    assert done.returncode == 0, done.stderr
    assert (int(done.stdout) < 100) == kept


def test_threads_and_telemetry_are_set_before_work_begins(repository):
    done = run(
        repository,
        "import os\nrun_stage(lambda argv: print(os.environ['OMP_NUM_THREADS'], os.environ['DO_NOT_TRACK']))",
        REPRISE_THREADS="2",
    )
    assert done.stdout.split() == ["2", "1"]


def test_an_expected_error_is_a_sentence_and_a_defect_keeps_its_traceback(repository):
    raising = "    raise ShardError('a', where='b', found='c', fix='d')\n"
    expected = f"from reprise.config.errors import ShardError\ndef main(argv):\n{raising}"
    done = run(repository, expected + "run_stage(main)")
    assert (done.returncode, done.stderr) == (1, "error: a (b). Found: c. d\n")
    assert "Traceback" in run(repository, expected + "run_stage(main)", REPRISE_TRACEBACK="1").stderr
    defect = run(repository, "run_stage(lambda argv: 1 / 0)")
    assert defect.returncode == 1
    assert "ZeroDivisionError" in defect.stderr


_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("more", [{}, {"PYTHONIOENCODING": "ascii"}], ids=["locale", "output"])
def test_an_ascii_locale_hides_no_file_and_breaks_no_output(repository, tmp_path, more):
    (tmp_path / "é 東.txt").write_text("text")
    body = (
        "import pathlib, sys\n"
        "def main(argv):\n"
        f"    folder = pathlib.Path({str(tmp_path)!r})\n"
        "    (path,) = folder.iterdir()\n"
        "    assert path.name == '\\u00e9 \\u6771.txt' and path.read_text() == 'text', path\n"
        "    print(path.name)\n"
        "    print(path.name, file=sys.stderr)\n"
        "run_stage(main)"
    )
    done = run(repository, body, **_ASCII, **more)
    assert done.returncode == 0, done.stderr
    shown = r"\xe9 \u6771.txt" if more else "é 東.txt"
    assert (done.stdout, done.stderr) == (f"{shown}\n", f"{shown}\n")


def test_what_the_system_refuses_is_a_sentence_and_a_missing_file_may_be_a_defect(repository, tmp_path):
    def raising(code: str) -> subprocess.CompletedProcess[str]:
        return run(repository, f"def main(argv): raise OSError({code}, 'x', 'a/file')\nrun_stage(main)")

    refused = raising("13")
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "error: this process has no permission (a/file). Found: x. Give yourself permission"
    )
    assert "Traceback" in raising("2").stderr


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_stage_dies_with_its_parent(repository):
    sleeping = "run_stage(lambda argv: (print(os.getpid(), flush=True), time.sleep(60)))"
    child = f"from reprise.runtime.entry import run_stage\nimport time, os\n{sleeping}"
    parent = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(repository)}
    )
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and alive(pid):
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stage_without_algebra_gives_its_libraries_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where processes are limited, OpenBLAS ends with SIGINT a process whose threads it cannot start."""
    code = (
        "import os, sys\n"
        "from reprise.runtime.entry import THREAD_VARIABLES, run_stage\n"
        "run_stage(lambda _: print(*(os.environ[name] for name in THREAD_VARIABLES)), algebra=False)\n"
    )
    monkeypatch.setenv("REPRISE_THREADS", "3")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["1", "1", "1", "1"]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        ("MemoryError", "error: this stage has too little memory .*Found: MemoryError. Close other programs"),
        (
            "RuntimeError('CUDA out of memory. Tried to')",
            "error: this stage has too little memory .*CUDA out of memory",
        ),
        ("RuntimeError('shapes differ')", "Traceback"),
    ],
)
def test_too_little_memory_is_a_sentence_and_a_defect_is_none(repository, raised: str, expected: str):
    found = run(repository, f"def main(argv): raise {raised}\nrun_stage(main)")
    assert found.returncode == 1
    assert re.match(expected, found.stderr, re.DOTALL)


ASKED_IN_A_DESTRUCTOR = """
import os, signal, time
class Asked:
    def __del__(self):
        os.kill(os.getpid(), signal.{signal})
        for _ in range(1000): pass
class Slow:
    def __del__(self, sleep=time.sleep): sleep(0.1)
slow = Slow()  # dies after the interpreter has taken the signal handlers away
def main(argv):
    Asked()
    {then}
run_stage(main)
"""


@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("then", ["1 / 0", "time.sleep(60)"], ids=["overtaken", "raised again"])
def test_a_signal_that_a_destructor_swallowed_ends_the_stage_with_its_own_status(
    repository, number: str, status: int, then: str
) -> None:
    done = run(repository, ASKED_IN_A_DESTRUCTOR.format(signal=number, then=then))
    assert done.returncode == status, done.stderr
    assert done.stderr.count("continues from the last checkpoint") == 1
