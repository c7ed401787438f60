"""Promise 5: killed at any moment and started again, a run ends with the hashes of an uninterrupted one."""

from __future__ import annotations

import fcntl
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import psutil
import pytest

from pipeline.graph.lock_file import read_lock
from tests.faults.killing import (
    DVC,
    REPRISE,
    SIGNALS,
    TARGETS,
    TARGETS_OF_JOBS,
    after,
    family,
    finish,
    held_locks,
    kill,
    kill_once,
    leftovers,
    orphans,
    role,
    start,
    watching,
    words,
)
from tests.faults.reduced import one_run, training_only
from tests.pipeline.dvc_project import Project
from tests.pipeline.real_project import real_project


@pytest.fixture(scope="module", autouse=True)
def _import_path(repository: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(repository))
        yield


@pytest.fixture(autouse=True)
def _nothing_stays(tmp_path: Path) -> Iterator[None]:
    """Whatever a failed test leaves running ends with it."""
    yield
    for folder in tmp_path.iterdir():
        for process in family(folder):
            process.kill()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> tuple[Path, bytes]:
    """A project that is ready to train, and the dvc.lock of the same one after an uninterrupted training."""
    root = tmp_path_factory.mktemp("training") / "project"
    project = training_only(root, repository, epochs=24)
    ready = root.with_name("ready")
    shutil.copytree(root, ready, symlinks=True)
    project.reprise("repro")
    return ready, project.lock()


def kill_and_check(
    root: Path, target: str, signum: int, rng: Random, within: tuple[float, float], command=REPRISE
) -> list[str]:
    log = root.with_name("log.txt")
    with watching(root) as twins:
        killed = kill_once(root, target, signum, log, rng, after(rng.uniform(*within)), command)
    assert killed.left == []
    assert twins == []
    assert held_locks(root) == []
    return killed.told


def test_a_lock_that_stays_is_found_and_one_that_is_let_go_is_none(tmp_path: Path) -> None:
    lock = tmp_path / ".reprise/work/pretrain/a/0/.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert held_locks(tmp_path, seconds=0.2) == [".reprise/work/pretrain/a/0/.lock"]
        release = threading.Timer(0.3, fcntl.flock, (held, fcntl.LOCK_UN))
        release.start()
        assert held_locks(tmp_path, seconds=30) == []
        release.join()


def finish_and_check(root: Path, want: bytes, command=REPRISE) -> None:
    log = root.with_name("log.txt")
    with watching(root) as twins:
        assert finish(root, command, log) == 0, log.read_text()[-3000:]
    assert twins == []
    assert family(root) == []
    assert held_locks(root) == []
    assert (root / "dvc.lock").read_bytes() == want
    assert leftovers(root) == []


def checkpoints(root: Path) -> set[str]:
    return {path.name for path in (root / ".reprise/work/pretrain").rglob("step-*.safetensors")}


@pytest.mark.slow
def test_three_kills_while_training_and_a_second_run_beside_the_last(
    trained: tuple[Path, bytes], tmp_path: Path
) -> None:
    """Each target and each signal once, soon after a new checkpoint; then to the end, disturbed by two twins."""
    ready, want = trained
    root, log = tmp_path / "project", tmp_path / "log.txt"
    shutil.copytree(ready, root, symlinks=True)
    rng = Random(0)
    for target, signum in zip(TARGETS, (signal.SIGKILL, signal.SIGTERM, signal.SIGINT), strict=True):
        before = checkpoints(root)
        with watching(root) as twins:
            driver = start(root, REPRISE, log)
            assert wait_for(lambda before=before: checkpoints(root) - before, driver), log.read_text()
            time.sleep(rng.uniform(0, 0.5))
            assert any("stages.pretrain" in line or target == "dvc" for line in kill(root, driver, target, signum))
            assert driver.wait(timeout=120) != 0
            assert orphans(root) == []
        assert twins == []
        assert held_locks(root) == []
        assert not (root / "data/runs/simclr/0").exists()

    before, project = checkpoints(root), Project(root)
    first = start(root, REPRISE, log)
    assert wait_for(lambda: checkpoints(root) - before, first)
    (trainer,) = [process for process in family(root) if role(process) == "stage"]
    trainer.suspend()  # it must not be done before the others are
    with ThreadPoolExecutor(1) as beside:  # the twin waits a while before it gives up
        waiting = beside.submit(project.call, *TRAINER, check=False)
        refused = project.reprise("repro", check=False)
        twin = waiting.result()
    trainer.resume()
    assert first.wait(timeout=300) == 0, log.read_text()
    assert (refused.returncode, twin.returncode) == (4, 1)
    assert "another run works in this folder" in refused.stderr
    assert f"process {first.pid}" in refused.stderr
    assert "reprise repro --wait" in refused.stderr
    assert f"held by process {trainer.pid}: python -P stages/run.py stages.pretrain" in twin.stderr
    assert "another process is working on this" in twin.stderr
    assert "Traceback" not in twin.stderr + refused.stderr + log.read_text()
    assert orphans(root) == []
    assert project.lock() == want
    assert leftovers(root) == []

    shutil.rmtree(root / "data/runs/simclr")  # what is lost comes back from DVC's cache, without a trainer
    assert "Running stage" not in project.dvc("repro").stdout
    shutil.rmtree(root / "data/runs/simclr")
    (root / "dvc.lock").unlink()
    said = project.dvc("repro").stdout  # and without dvc.lock from the run cache
    assert "Stage 'pretrain@run0-0' is cached" in said
    assert "Running stage 'pretrain" not in said
    assert (
        read_lock(root)["pretrain@run0-0"]["outs"] == read_lock(ready.with_name("project"))["pretrain@run0-0"]["outs"]
    )


def wait_for(what: Callable[[], object], driver: subprocess.Popen[bytes]) -> bool:
    while driver.poll() is None and not what():
        time.sleep(0.01)
    return bool(what())


TRAINER = (REPRISE[0], "-P", "stages/run.py", "stages.pretrain", "--run", "simclr", "--seed", "0")


@pytest.mark.slow
@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("target", TARGETS)
def test_plain_dvc_killed_while_training(trained: tuple[Path, bytes], tmp_path: Path, target: str, signum: int) -> None:
    """Without `reprise` around it: nothing is left behind, and `reprise repro` goes on."""
    ready, want = trained
    root = tmp_path / "project"
    shutil.copytree(ready, root, symlinks=True)
    rng = Random(f"{target} {signum}")
    for _ in range(2):
        kill_and_check(root, target, signum, rng, (1.0, 6.0), DVC)
    finish_and_check(root, want)


@pytest.mark.slow
@pytest.mark.parametrize("first", [DVC, REPRISE])
def test_a_new_run_right_after_a_kill_outlives_the_trainer_of_the_first(
    trained: tuple[Path, bytes], tmp_path: Path, first: tuple[str, ...]
) -> None:
    """DVC is gone and its trainer has not noticed yet when the next run starts."""
    ready, want = trained
    root, log = tmp_path / "project", tmp_path / "log.txt"
    shutil.copytree(ready, root, symlinks=True)
    driver = start(root, first, log)
    assert wait_for(lambda: checkpoints(root), driver)
    at_work = family(root)
    (trainer,) = [p for p in at_work if role(p) == "stage"]
    for process in at_work:  # DVC and reprise, not the shell and the trainer
        if "stages.pretrain" not in " ".join(words(process)):
            process.kill()
    second = start(root, REPRISE, log)
    assert psutil.wait_procs([trainer], timeout=10)[0] == [trainer]
    assert second.wait(timeout=300) == 0, log.read_text()  # nor was it refused because of the first
    driver.wait(timeout=60)
    assert orphans(root) == []
    assert held_locks(root) == []
    assert (root / "dvc.lock").read_bytes() == want
    assert leftovers(root) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> tuple[Path, bytes]:
    """A project before its first run, and the dvc.lock of the same one after an uninterrupted run."""
    root = tmp_path_factory.mktemp("whole") / "project"
    fresh = root.with_name("fresh")
    project = one_run(root, repository, epochs=10)
    shutil.copytree(root, fresh, symlinks=True)
    project.reprise("repro")
    return fresh, project.lock()


@pytest.mark.slow
@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("target", TARGETS)
def test_the_kill_matrix(whole: tuple[Path, bytes], tmp_path: Path, target: str, signum: int) -> None:
    """At random moments of all stages, three times in a row, then to the end."""
    fresh, want = whole
    root = tmp_path / "project"
    shutil.copytree(fresh, root, symlinks=True)
    rng = Random(f"{target} {signum}")
    for _ in range(3):
        kill_and_check(root, target, signum, rng, (0.5, 25.0))
    finish_and_check(root, want)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> tuple[Path, bytes]:
    """A project of two runs before its first run, and its dvc.lock after one stage at a time."""
    root = tmp_path_factory.mktemp("several") / "project"
    project = real_project(root, repository)
    shutil.copytree(root, root.with_name("fresh"), symlinks=True)
    project.reprise("repro", "--jobs", "1")
    return root.with_name("fresh"), project.lock()


@pytest.mark.slow
@pytest.mark.parametrize("signum", SIGNALS)
def test_kills_of_a_run_with_stages_at_once(several: tuple[Path, bytes], tmp_path: Path, signum: int) -> None:
    """The driver, one of the stages and all of them, at random moments; then to the end, with the bytes of one job."""
    fresh, want = several
    root, command = tmp_path / "project", (*REPRISE, "--jobs", "3")
    shutil.copytree(fresh, root, symlinks=True)
    rng = Random(f"jobs {signum}")
    for target in TARGETS_OF_JOBS:
        kill_and_check(root, target, signum, rng, (5, 40), command)
    finish_and_check(root, want, command)
