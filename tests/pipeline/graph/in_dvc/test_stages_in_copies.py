"""Stages that start as copies of a loaded process: each finds what it would find as a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from pipeline.graph.in_dvc.stages_in_copies import libraries
from pipeline.graph.in_dvc.stages_in_copies.libraries import one_thread, read_when_loaded

ROOT = Path(__file__).resolve().parents[4]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stages start in copies on Linux only")

SHOW = """
import json, os, signal, sys, threading
from pathlib import Path

import stages.value

main = sys.modules["__main__"]
ours = {name: getattr(m, "__file__", None) for name, m in sys.modules.items() if name.split(".")[0] in PACKAGES}
json.dump({
    "name": __name__, "argv": sys.argv, "command": sys.orig_argv[1:], "path": sys.path, "folder": os.getcwd(),
    "environment": {k: v for k, v in os.environ.items() if k != "_"},
    "ours": ours, "main": [main.__file__, main.__name__, main.__package__, main.__spec__ is None],
    "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "wakeup": signal.set_wakeup_fd(-1),
    "files": len(os.listdir("/proc/self/fd")), "threads": [t.name for t in threading.enumerate()],
    "finders": [getattr(f, "__name__", type(f).__name__) for f in sys.meta_path],
    "shown": Path("/proc/self/cmdline").read_bytes().replace(b"\\0", b" ").decode().split()[1:],
    "same thread as the process": os.getpid() == threading.get_native_id(), "value": stages.value.VALUE,
}, sys.stdout)
print()
""".replace("PACKAGES", repr(("stages", "reprise", "pipeline")))
ENDS = """
import atexit, os, signal, sys, threading, time

how = sys.argv[1]
if how == "late":
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread", flush=True))).start()
    atexit.register(print, "exit function")
if how == "number":
    sys.exit(3)
if how == "text":
    sys.exit("a sentence")
if how == "error":
    raise ValueError("a mistake")
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "interrupted":
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
if how == "sleeps":
    print(os.getpid(), os.getppid(), flush=True)
    time.sleep(60)
"""
DRIVER = """
import json, os, sys
from pipeline.graph.in_dvc.stages_in_copies import starter, starting

starter.LIBRARIES = ["quopri", "chunked"]
starting.prepare_to_start_stages(load=True)
run = starting.start_in_copy(lambda executable, cmd, **options: print("left to DVC", flush=True))
for line in sys.stdin:
    if line == "end\\n":
        starting.end_starting()
        os.waitpid(-1, os.WNOHANG)  # fails: no child is left
    request = json.loads(line)
    try:
        run("/bin/sh", request["cmd"], env={**os.environ, **request["environment"]}, cwd=os.getcwd())
        print("status 0", flush=True)
    except Exception as error:
        print("status", getattr(error, "msg", error), flush=True)
"""


class Driver:
    """A process that starts stages as DVC does."""

    def __init__(self, project: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", DRIVER],
            cwd=project,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def request(self, words: str, **variables: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"cmd": words, "environment": variables}) + "\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def run(self, words: str, **variables: str) -> list[str]:
        """Return the lines of a stage and, last, its status."""
        self.request(words, **variables)
        lines = [self.line()]
        while not lines[-1].startswith("status"):
            assert self.process.poll() is None
            lines.append(self.line())
        return lines

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name not in ("REPRISE_THREADS", "PYTEST_CURRENT_TEST")}
    return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "stages").mkdir()
    shutil.copy(ROOT / "stages/run.py", folder / "stages")
    for name, text in {"__init__": "", "show": SHOW, "ends": ENDS, "value": "VALUE = 1\n"}.items():
        (folder / f"stages/{name}.py").write_text(text)
    return folder


@pytest.fixture(params=[signal.SIG_DFL, signal.SIG_IGN], ids=["plain", "nohup"])
def hangup(request: pytest.FixtureRequest) -> Any:
    """What the processes of a test inherit for SIGHUP; `nohup` ignores it."""
    before = signal.signal(signal.SIGHUP, request.param)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def driver(project: Path) -> Any:
    started = Driver(project)
    yield started
    started.end()


@pytest.mark.usefixtures("hangup")
def test_a_stage_finds_what_it_finds_as_a_process_of_its_own(project: Path, request: pytest.FixtureRequest) -> None:
    driver: Driver = request.getfixturevalue("driver")  # after SIGHUP has been set
    words = "python -P stages/run.py stages.show --run a --seed 0"
    alone = subprocess.run(words.split(), cwd=project, env=environment(), capture_output=True, text=True, check=True)
    shown, status = driver.run(words)
    assert status == "status 0"
    found, expected = json.loads(shown), json.loads(alone.stdout)
    assert found.pop("environment") == expected.pop("environment")
    assert found == expected
    assert json.loads(shown)["ours"].keys() == {"stages", "stages.value"}


def test_the_code_is_that_of_the_moment_when_the_stage_starts(project: Path, driver: Driver) -> None:
    source = project / "stages/value.py"
    try:
        values = []
        for value in (1, 22, 333):
            source.write_text(f"VALUE = {value}\n")
            values.append(json.loads(driver.run("python -P stages/run.py stages.show")[0])["value"])
        assert values == [1, 22, 333]
    finally:
        source.write_text("VALUE = 1\n")


def test_the_ends_of_a_stage(driver: Driver) -> None:
    def end(how: str) -> list[str]:
        return driver.run(f"python -P stages/run.py stages.ends {how}")

    assert end("late") == ["thread", "exit function", "status 0"]
    assert end("number")[-1].endswith("exited with 3")
    assert [line.split(":")[0] for line in end("text")] == ["a sentence", "status failed to run"]
    *trace, message, status = end("error")
    assert message == "ValueError: a mistake"
    assert status.endswith("exited with 1")
    assert not [line for line in trace if "stages_in_copies" in line]
    assert end("killed")[-1].endswith("exited with -9")
    assert end("interrupted")[-1].endswith("exited with 130")


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        ("python -P stages/run.py stages.show; echo", {}),
        ("python -P stages/run.py other.show", {}),
        ("python stages/run.py stages.show", {}),
        ("echo done", {}),
        ("python -P stages/run.py stages.show", {"REPRISE_THREADS": "2", "OMP_NUM_THREADS": "2"}),
        ("python -P stages/run.py stages.show", {"MKL_NUM_THREADS": "4"}),
        ("python -P stages/run.py stages.show", {"LD_PRELOAD": "libother.so"}),
        ("python -P stages/run.py stages.show", {"PATH": "/nowhere"}),
    ],
)
def test_what_is_left_to_dvc(driver: Driver, words: str, variables: dict[str, str]) -> None:
    assert driver.run(words, **variables) == ["left to DVC", "status 0"]


def test_libraries_are_loaded_beside_the_second_stage_and_shared(driver: Driver) -> None:
    first = psutil.Process(driver.process.pid)
    for _ in range(2):
        driver.run("python -P stages/run.py stages.show")
    starter = next(child for child in first.children() if "starts" in child.cmdline())
    assert starter.cmdline() == ["reprise:", "starts", "stages"]
    assert starter.num_threads() == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_stays_when_dvc_ends(driver: Driver, number: int) -> None:
    driver.request("python -P stages/run.py stages.ends sleeps")
    stage, starter = (psutil.Process(int(word)) for word in driver.line().split())
    driver.process.send_signal(number)
    assert starter.wait(5) is None or not starter.is_running()
    stage.kill()  # a real stage asks for a signal at the end of its parent; this one does not


def test_the_starter_is_waited_for_at_the_end(driver: Driver) -> None:
    driver.run("python -P stages/run.py stages.show")
    assert driver.process.stdin is not None
    driver.process.stdin.write("end\n")
    driver.process.stdin.flush()
    driver.process.wait(10)
    assert "ChildProcessError" in driver.process.communicate()[0]


def test_a_starter_that_is_killed_is_a_failure_of_the_stage(driver: Driver) -> None:
    driver.request("python -P stages/run.py stages.ends sleeps")
    stage, starter = (psutil.Process(int(word)) for word in driver.line().split())
    starter.kill()
    assert driver.line().endswith("exited with -9")
    stage.kill()


@pytest.mark.parametrize(
    ("cuda", "loaded"), [(None, ["torch", "numpy", "torch._dynamo"]), ("13.0", ["torch", "numpy"])]
)
def test_no_device_is_asked_for_before_the_copy(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, loaded: list[str]
) -> None:
    names: list[str] = []
    torch = SimpleNamespace(version=SimpleNamespace(cuda=cuda, hip=None))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(libraries.importlib, "import_module", names.append)
    monkeypatch.setattr(libraries.gc, "freeze", lambda: None)
    rest = ["torch", "numpy", "torch._dynamo"]
    while rest:
        libraries.load_next(rest)
    assert names == loaded


def test_one_thread_is_the_default_and_what_the_user_asks_for_counts() -> None:
    assert one_thread({})
    assert one_thread({"REPRISE_THREADS": "0"})
    assert not one_thread({"REPRISE_THREADS": "4"})
    assert one_thread({"REPRISE_THREADS": "4", **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")}) is False
    assert not one_thread({"OPENBLAS_NUM_THREADS": "2"})
    assert read_when_loaded({"LD_PRELOAD": "a", "OMP_NUM_THREADS": "2", "HOME": "/", "TORCH_LOGS": "b"}) == {
        "LD_PRELOAD": "a",
        "TORCH_LOGS": "b",
    }
