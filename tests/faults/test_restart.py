"""`--restart` discards what an interrupted run left; without it the same command goes on; both end the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.artifacts.shards import Shards
from reprise.storage.work_folder import ROOT, file_digest
from reprise.training import schedule as schedule_module
from reprise.training.schedule import Schedule
from stages.pretrain.__main__ import main
from tests.faults.reduced import read, write
from tests.stages.pretrain.conftest import write_label_set
from tests.workspace import make_shards

COMMAND = ["--run", "simclr", "--seed", "0"]
OUT = Path("data/runs/simclr/0")
REAL = schedule_module.learning_rate_at


@pytest.fixture
def _workspace(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_shards()
    keys = Shards.open().keys[Shards.open().rows("train")]
    write_label_set("none", keys, np.full(len(keys), -1))
    params = read(repository / "params.yaml")
    params["train"] |= {"epochs": 3, "batch_size": 16, "warmup_epochs": 0, "checkpoint_steps": 2}
    write(Path("params.yaml"), params)


@pytest.mark.usefixtures("_workspace")
def test_restart_trains_from_the_first_step_and_ends_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    main(COMMAND)
    whole = file_digest(OUT)
    for arguments, first_step in ((COMMAND, 10), ([*COMMAND, "--restart"], 0)):
        steps = count_steps(monkeypatch, interrupt_at=11)
        with pytest.raises(KeyboardInterrupt):
            main(COMMAND)
        assert file_digest(OUT) == whole  # the earlier result stays until there is a new one
        assert len(list(ROOT.rglob("step-*"))) == 2
        steps = count_steps(monkeypatch)
        main(arguments)
        # after the last step, the notes of the run ask for a few rates more
        assert steps[: 15 - first_step] == list(range(first_step, 15))
        assert file_digest(OUT) == whole
        assert not list(ROOT.rglob("step-*"))


def count_steps(monkeypatch: pytest.MonkeyPatch, interrupt_at: int | None = None) -> list[int]:
    """The numbers of the steps taken, from now on."""
    taken: list[int] = []

    def rate(schedule: Schedule, step: int, *arguments: Any) -> float:
        if step == interrupt_at:
            raise KeyboardInterrupt
        taken.append(step)
        return REAL(schedule, step, *arguments)

    monkeypatch.setattr(schedule_module, "learning_rate_at", rate)
    return taken
