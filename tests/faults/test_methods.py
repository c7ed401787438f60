"""Every method that trains, killed by SIGKILL at random steps: the run goes on and ends with the same bytes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from reprise.storage.work_folder import file_digest
from tests.stages.pretrain.conftest import digits  # noqa: F401 - a fixture
from tests.stages.pretrain.test_run import LEARNING, run

TRAIN = "import sys\nfrom tests.stages.pretrain.test_run import run\nrun(sys.argv[1], 'killed')"


def steps_saved() -> int:
    found = [re.search(r"step-(\d+)", path.name) for path in Path(".reprise/work/pretrain").rglob("step-*.safetensors")]
    return max((int(match[1]) for match in found if match), default=0)


@pytest.mark.slow
@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize("method", LEARNING)
def test_a_killed_training_ends_the_same(method: str, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """15 steps, a checkpoint after every second one and every epoch; two kills."""
    whole = file_digest(run(method, "whole"))
    rng, reached = Random(method), 0
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", TRAIN, method],
            env=os.environ | {"PYTHONPATH": str(repository)},
            stderr=subprocess.DEVNULL,
        )
        goal = reached + rng.randrange(1, 5)
        while steps_saved() < goal and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        reached = steps_saved()
    assert not Path("killed").exists()
    capsys.readouterr()
    assert file_digest(run(method, "killed")) == whole
    assert "unfinished work on other inputs" not in capsys.readouterr().err  # it did not begin again
    assert not list(Path(".reprise/work").rglob("step-*"))
