"""Start a run of the graph, kill some of its processes at some moment, and say what was left behind.

A process belongs to a run when its current folder is the project. What is counted: processes that outlive their
run, locks that stay held, two processes of one stage at once, and results that differ from an uninterrupted run.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil

from pipeline.processes.commands import OWN_MODULE, environment

TARGETS = ("dvc", "stage", "group")
TARGETS_OF_JOBS = ("driver", "one stage", "group")  # of a run with several stages at once
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
REPRISE = (sys.executable, "-c", "from pipeline.cli.main import main; main()", "repro")
RUN = "stages/run.py"  # starts every stage
IN_DVC = "pipeline.graph.in_dvc"  # DVC with our checks, as `reprise` starts it
DVC = (sys.executable, "-m", "dvc", "--wait-for-lock", "repro")
SETTLE_SECONDS = 10.0  # a process that was told to end may be in a long call; what stays longer is an orphan


def family(root: Path) -> list[psutil.Process]:
    """Living processes whose current folder is `root`, except this one."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.pid != os.getpid() and process.cwd() == str(root):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def words(process: psutil.Process) -> list[str]:
    """Its command line without the interpreter and `-P`; empty when it is gone."""
    try:
        return [word for word in process.cmdline()[1:] if word != "-P"]
    except psutil.Error:
        return []


def role(process: psutil.Process) -> str:
    """'stage', 'dvc', or 'other': reprise itself, shells, decoders."""
    line = words(process)
    if line[:2] == list(OWN_MODULE[-2:]):
        line = ["-m", *line[2:]]
    if line[:1] == [RUN] and line[1:2] and line[1].startswith("stages."):
        return "stage"
    return "dvc" if line[:1] == ["-m"] and line[1:2] in (["dvc"], [IN_DVC]) and "repro" in line else "other"


def start(root: Path, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a run in its own session; what it says is added to `log`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; children would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            cwd=root,
            env={**environment(), "REPRISE_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def kill(
    root: Path,
    driver: subprocess.Popen[bytes],
    target: str,
    signum: int,
    patience: float = 30.0,
    rng: Random | None = None,
) -> list[str]:
    """Send a signal to the run's DVC, its stages, one of these, its driver, or everything of it; waits for such.

    Args:
        target: of TARGETS or TARGETS_OF_JOBS.
        rng: chooses the one stage.

    Returns:
        The command lines that got it; empty when the run ended first.
    """
    end = time.monotonic() + patience
    while driver.poll() is None and time.monotonic() < end:
        chosen = _chosen(root, driver, target)
        if chosen:
            chosen = [(rng or Random(0)).choice(chosen)] if target == "one stage" else chosen
            told = []
            for process in chosen:
                with suppress(psutil.Error):
                    told.append(" ".join(words(process)))
                    process.send_signal(signum)
            return told
        time.sleep(0.02)
    return []


def _chosen(root: Path, driver: subprocess.Popen[bytes], target: str) -> list[psutil.Process]:
    running = family(root)
    if target == "driver":
        return [process for process in running if process.pid == driver.pid]
    return [process for process in running if target == "group" or role(process) == target.removeprefix("one ")]


@contextmanager
def watching(root: Path) -> Iterator[list[str]]:
    """Looks at the project ten times a second; the list holds each stage that was seen running twice at once.

    Seen in two looks in a row: one that is just ending beside one that just starts is none.
    """
    seen: list[str] = []
    end = threading.Event()

    def watch() -> None:
        before: set[str] = set()
        while not end.wait(0.1):
            running = Counter(" ".join(words(p)) for p in family(root) if role(p) == "stage")
            twice = {line for line, times in running.items() if times > 1}
            seen.extend(sorted(twice & before))
            before = twice

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        end.set()
        watcher.join()


def orphans(root: Path, seconds: float = SETTLE_SECONDS) -> list[str]:
    """Command lines of what still runs in the project `seconds` after its run has ended.

    Looks are counted, not the clock: a machine that was frozen in between gave nobody the time to end.
    """
    for _ in range(round(seconds / 0.05)):
        if not family(root):
            return []
        time.sleep(0.05)
    return [f"{p.pid} {' '.join(words(p))}" for p in family(root)]


def held_locks(root: Path, seconds: float = SETTLE_SECONDS) -> list[str]:
    """Lock files that cannot be taken although nothing runs, and still cannot `seconds` later.

    A killed process of 1.5 GB already counts as a zombie while its threads give back the memory; its files are closed
    up to 1.6 seconds later on a busy machine (measured). Looks are counted, not the clock.
    """
    locks = [root / ".reprise/repro.lock", root / ".dvc/tmp/lock", *(root / ".reprise/work").rglob(".lock")]
    for _ in range(round(seconds / 0.05)):
        locks = [path for path in locks if _is_held(path)]
        if not locks:
            return []
        time.sleep(0.05)
    return [str(path.relative_to(root)) for path in locks]


def _is_held(path: Path) -> bool:
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def leftovers(root: Path) -> list[str]:
    """What a completed run should not leave: checkpoints, half-written artifacts, DVC's notes of owners."""
    left = [str(p.relative_to(root)) for p in (root / ".reprise/work").rglob("*") if p.is_file() and p.name != ".lock"]
    left += [str(p.relative_to(root)) for p in (root / "data").rglob(".partial-*")]
    notes = root / ".dvc/tmp/rwlock"
    if notes.exists() and any(json.loads(notes.read_text() or "{}").values()):
        left.append(str(notes.relative_to(root)))
    return left


def finish(root: Path, command: Sequence[str], log: Path, seconds: float = 900.0) -> int:
    """Run to the end without a kill; the exit status."""
    process = start(root, command, log)
    try:
        return process.wait(timeout=seconds)
    finally:
        if process.poll() is None:
            process.kill()


@dataclass(frozen=True)
class Kill:
    """What a kill met, and what it left.

    Attributes:
        told: command lines that got the signal; empty when the run ended first.
        stage: the module of the stage that was hit or running ("stages.pretrain"), "" between two stages.
        left: what still ran `SETTLE_SECONDS` after the run had ended.
    """

    told: list[str]
    stage: str
    left: list[str]


def stages_at_work(root: Path) -> dict[str, float]:
    """Command lines of the stages that DVC runs in `root` ("stages.pretrain --run simclr --seed 0"), and their starts.

    What reads the source before DVC starts is none.
    """
    found = {}
    for process in family(root):
        line = words(process)[1:] if role(process) == "stage" else []
        if line and line[0] != "stages.ingest.scan":
            with suppress(psutil.Error):
                found[" ".join(line)] = process.create_time()
    return found


def stage_at_work(root: Path) -> str:
    """Command line of a stage that DVC runs in `root`; "" for none."""
    return next(iter(stages_at_work(root)), "")


def kill_once(
    root: Path,
    target: str,
    signum: int,
    log: Path,
    rng: Random,
    until: Callable[[subprocess.Popen[bytes]], None],
    command: Sequence[str],
) -> Kill:
    """Start a run, kill at a moment, wait for its end.

    A signal that changes nothing (DVC ignores SIGINT while a command runs) is followed by SIGTERM to everything,
    so that the run does end early.

    Args:
        until: waits, given the run, for the moment to kill it, or for its end.
    """
    driver = start(root, command, log)
    until(driver)
    met = stage_at_work(root).split(" ")[0]
    told = kill(root, driver, target, signum, rng=rng)
    hit = [found[1] for line in told if (found := re.match(rf"{RUN} (stages\.\S+)", line))]
    try:
        driver.wait(timeout=rng.uniform(5, 10))
    except subprocess.TimeoutExpired:
        kill(root, driver, "group", signal.SIGTERM)
    driver.wait(timeout=300)
    return Kill(told, hit[0] if hit else met, orphans(root))


def after(seconds: float) -> Callable[[subprocess.Popen[bytes]], None]:
    """This long after the start of a run."""

    def until(driver: subprocess.Popen[bytes]) -> None:
        with suppress(subprocess.TimeoutExpired):
            driver.wait(timeout=seconds)

    return until


def into(root: Path, order: Sequence[str], place: int, seconds: float) -> Callable[[subprocess.Popen[bytes]], None]:
    """This long after the stage at `place` of the order, or one behind it, has begun; -1 is the start of the run."""

    def until(driver: subprocess.Popen[bytes]) -> None:
        begun = time.time() if place < 0 else 0.0
        while driver.poll() is None and not (begun and time.time() - begun >= seconds):
            if not begun:
                begun = min((at for line, at in stages_at_work(root).items() if line in order[place:]), default=0.0)
            time.sleep(0.05)

    return until
