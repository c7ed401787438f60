"""Promise 5 under Prefect: flow or worker killed while pretraining, no orphan, then the same hashes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.flows import dead_runs
from tests.faults.killing import family, held_locks, role
from tests.faults.reduced import training_only
from tests.pipeline.dvc_project import Project, wait_for
from tests.pipeline.flows.toy import Prefect

pytestmark = pytest.mark.xdist_group("flows")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, repository: Path, _import_path: None) -> tuple[Path, bytes]:
    """A project that is ready to train, and its dvc.lock after an uninterrupted training by `reprise repro`."""
    root = tmp_path_factory.mktemp("training") / "project"
    project = training_only(root, repository, epochs=24)
    (root / "pipeline").symlink_to(repository / "pipeline", target_is_directory=True)
    ready = root.with_name("ready")
    shutil.copytree(root, ready, symlinks=True)
    project.reprise("repro")
    return ready, project.lock()


@pytest.fixture
def training(trained: tuple[Path, bytes], tmp_path: Path) -> Iterator[Project]:
    shutil.copytree(trained[0], tmp_path / f"training-{tmp_path.name.replace('_', '-')}", symlinks=True)
    (root,) = tmp_path.iterdir()
    yield Project(root)
    for process in family(root):
        process.kill()


@pytest.mark.parametrize("victim", ["flow", pytest.param("worker", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_killed_while_pretraining_then_the_same_hashes(
    prefect: Prefect, training: Project, trained: tuple[Path, bytes], victim: str
) -> None:
    prefect.deploy(training)
    run = prefect.start(training.root.name)
    wait_for(lambda: list((training.root / ".reprise/work/pretrain").rglob("step-*.safetensors")), 300)
    (trainer,) = [process for process in family(training.root) if role(process) == "stage"]
    trainer.suspend()  # it must not be done before the others are
    engine = next(p for p in trainer.parents() if {"prefect.engine", "prefect.flow_engine"} & set(p.cmdline()))
    worker = engine.parent()
    assert worker is not None
    (engine if victim == "flow" else worker).kill()
    trainer.resume()
    wait_for(lambda: not family(training.root), 120)
    assert not psutil.pid_exists(trainer.pid) or trainer.status() == psutil.STATUS_ZOMBIE
    assert held_locks(training.root) == []
    assert not (training.root / "data/runs/simclr/0").exists()
    left = list((training.root / ".reprise/work/pretrain").rglob("step-*.safetensors"))
    assert left

    dead_runs.close_dead_runs(prefect.address, training.root)
    prefect.await_state(run, "CRASHED")
    again = prefect.start(training.root.name)
    ended = prefect.await_state(again, "COMPLETED", "FAILED", "CRASHED", "CANCELLED", seconds=400)
    assert ended["state_type"] == "COMPLETED", prefect.logs(again)[-20:]
    assert training.lock() == trained[1]
