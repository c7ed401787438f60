"""Several processes of one training from start to end: who writes, how they die, and what a checkpoint of theirs is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from reprise.config.params import read_yaml
from reprise.storage.work_folder import file_digest

RUN, WORK = Path("data/runs/simclr/0"), Path(".reprise/work/pretrain/simclr/0")
TRAIN = {
    "backbone": "resnet_tiny", "epochs": 40, "batch_size": 16, "optimizer": "sgd", "weight_decay": 0.0,
    "learning_rate": 1e-5,  # digits lie where rounding decides; at a low rate it does not add up
    "warmup_epochs": 1, "device": "cpu", "precision": "fp32", "checkpoint_steps": 2,
}  # fmt: skip


class Project:
    """A workspace of digits, and the stage that trains on them."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.train: dict[str, Any] = {}  # besides TRAIN

    def start(
        self, processes: int, epochs: int = 40, launcher: Sequence[str] = (sys.executable, "-P"), **variables: str
    ) -> subprocess.Popen[str]:
        """Write the parameters and start the stage, by the interpreter or by torchrun."""
        raw: dict[str, Any] = read_yaml(self.repository / "params.yaml")
        raw |= {
            "image": {"size": 16, "channels": 3},
            "train": TRAIN | {"epochs": epochs, "processes": processes} | self.train,
            "runs": [{"name": "simclr", "method": "simclr", "labels": "none"}],
            "methods": {"simclr": {}},
            "adapt": [],
        }
        Path("params.yaml").write_text(json.dumps(raw, default=str), encoding="utf-8")  # JSON is YAML
        command = [*launcher, self.repository / "stages/run.py", "stages.pretrain", "--run", "simclr"]
        return subprocess.Popen(
            [*map(str, command), "--seed", "0", "--quiet"],
            env=os.environ | variables, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, processes: int, **options: Any) -> str:
        """Train to the end, and return what was said."""
        stage = self.start(processes, **options)
        _, said = stage.communicate(timeout=240)
        assert stage.returncode == 0, said
        return said

    def interrupted(self, processes: int, rank: int, number: int) -> tuple[int, str]:
        """Send a signal to one process after a checkpoint; all of them must be gone soon. Return status and words."""
        before = set(WORK.glob("*/step-*"))
        Path("tmp").mkdir(exist_ok=True)
        variables = {"TMPDIR": str(Path("tmp").absolute())}
        stage = self.start(processes, **variables)
        end = time.monotonic() + 120
        while set(WORK.glob("*/step-*")) <= before and time.monotonic() < end:
            time.sleep(0.02)
        others = psutil.Process(stage.pid).children()
        assert len(others) == processes - 1
        os.kill([stage.pid, *(other.pid for other in others)][rank], number)
        _, said = stage.communicate(timeout=20)
        _, alive = psutil.wait_procs(others, timeout=15)
        assert alive == []
        assert not list(Path(variables["TMPDIR"]).glob("reprise-*"))  # whatever was killed
        assert not RUN.exists()
        return stage.returncode, said


@pytest.fixture
def project(digits: Path, repository: Path) -> Project:
    """The current folder is a workspace."""
    return Project(repository)


def weights(folder: Path = RUN) -> dict[str, np.ndarray]:
    """What learns, without running statistics."""
    found = load_file(folder / "backbone.safetensors")
    return {name: value for name, value in found.items() if "running" not in name and "num_batches" not in name}


def furthest(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


@pytest.mark.slow
def test_killed_in_any_way_two_processes_end_with_the_bytes_of_an_unbroken_training(project: Project) -> None:
    project.run(2)
    whole = file_digest(RUN)
    RUN.rename("whole")
    status, said = project.interrupted(2, 1, signal.SIGKILL)
    assert status == 1
    assert "process 1 of the 2 that train together has ended" in said
    assert "ended by SIGKILL" in said
    assert said.count("error:") == 1
    assert "Traceback" not in said
    assert project.interrupted(2, 0, signal.SIGKILL)[0] == -signal.SIGKILL
    status, said = project.interrupted(2, 0, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert "terminated" in said
    project.run(2)
    assert file_digest(RUN) == whole
    assert json.loads((RUN / "config.json").read_text())["parameters"]["train"]["processes"] == 2


@pytest.mark.slow
def test_a_checkpoint_does_not_depend_on_the_number_of_processes(project: Project) -> None:
    project.run(1)
    alone = weights()
    RUN.rename("alone")
    apart = []
    for first, second in ((2, 1), (1, 2)):
        project.interrupted(first, 0, signal.SIGKILL)
        assert "other inputs" not in project.run(second)
        apart.append(furthest(weights(), alone))
        RUN.rename(f"{first} to {second}")
    project.run(1, epochs=1)
    way = furthest(weights(), alone)  # that the weights go after the first epoch
    assert max(apart) < 0.05 * way, (apart, way)


@pytest.mark.slow
def test_checkpoints_and_files_are_the_same_with_parted_weights(project: Project) -> None:
    plain = {"epochs": 10}
    parted = plain | {"shard_weights": True}
    project.train = parted
    project.run(2)
    whole, digest, files = weights(), file_digest(RUN), sorted(path.name for path in RUN.iterdir())
    RUN.rename("whole")
    apart = []
    for processes, first, then, second in ((2, parted, 2, parted), (2, parted, 1, plain), (1, plain, 2, parted)):
        project.train = first
        project.interrupted(processes, 0, signal.SIGKILL)
        project.train = second
        assert "other inputs" not in project.run(then)
        apart.append(furthest(weights(), whole))
        assert (file_digest(RUN) == digest) == (first == second)
        assert sorted(path.name for path in RUN.iterdir()) == files
        RUN.rename(f"{processes} to {then}")
    project.train = {"epochs": 1}
    project.run(1)
    way = furthest(weights(), whole)  # that the weights go after the first epoch
    assert apart[0] == 0
    assert max(apart) < 0.05 * way, (apart, way)


TORCHRUN = (
    sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
    "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--",
)  # fmt: skip


@pytest.mark.slow
def test_torchrun_starts_processes_too_and_their_number_must_fit(project: Project) -> None:
    project.run(2, epochs=2)
    expected = file_digest(RUN)
    RUN.rename("started here")
    project.run(2, epochs=2, launcher=TORCHRUN)
    assert file_digest(RUN) == expected
    stage = project.start(3, 2, RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
    _, said = stage.communicate(timeout=60)
    assert stage.returncode == 1
    assert "torchrun started another number of processes" in said


@pytest.mark.slow
def test_a_rank_of_torchrun_that_is_killed_ends_the_training_without_a_traceback(project: Project) -> None:
    project.run(2, epochs=30)
    whole = file_digest(RUN)
    RUN.rename("whole")
    before = set(WORK.glob("*/step-*"))
    stage = project.start(2, 30, launcher=TORCHRUN)
    end = time.monotonic() + 120
    while set(WORK.glob("*/step-*")) <= before and time.monotonic() < end:
        time.sleep(0.02)
    ranks = [child for child in psutil.Process(stage.pid).children() if "stages.pretrain" in child.cmdline()]
    (second,) = [rank for rank in ranks if rank.environ()["RANK"] == "1"]
    second.kill()
    _, said = stage.communicate(timeout=60)
    assert stage.returncode == 1
    own, _, _ = said.partition("ChildFailedError")  # afterwards torchrun speaks, with a traceback of its own
    assert "another process of this training has ended or cannot be reached" in own or "terminated:" in own
    assert "runtime/world.py" not in said  # where a traceback of ours would end
    assert not any(rank.is_running() for rank in ranks)
    assert not RUN.exists()
    project.run(2, epochs=30, launcher=TORCHRUN)
    assert file_digest(RUN) == whole
