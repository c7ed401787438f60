"""Schedules in whole runs: each of them, and one that is added in a single file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reprise.artifacts.weights.backbones import read_config
from reprise.config.params import parse, problems_of
from reprise.config.plug_ins.registry import names
from reprise.training.params import TrainParams
from reprise.training.schedule import learning_rate_at, load_schedule, typed_block
from tests.stages.pretrain.conftest import TINY
from tests.stages.pretrain.test_run import run

HALVES = '''
"""`halves`: half the rate at every step."""

from reprise.training.schedule import Schedule, ScheduleParams


class Halves(Schedule):
    class Params(ScheduleParams):
        base: float = 2.0

    def share(self, step, steps, warmup):
        return self.params.base ** (warmup - step)
'''


def test_a_schedule_is_added_in_one_file_and_trains(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing but the file the name is known, its parameters are typed, and a run steps at its rates."""
    Path("plugins/schedules").mkdir(parents=True)
    Path("plugins/schedules/halves.py").write_text(HALVES, encoding="utf-8")
    real, seen = torch.optim.SGD.step, []

    def step(self, *arguments, **keywords):
        seen.append(self.param_groups[0]["lr"])
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    train = parse(
        TrainParams,
        TINY.model_dump() | {"epochs": 1, "warmup_epochs": 0, "schedule": {"name": "halves", "base": 4.0}},
        "train",
    )
    out = run("simclr", "out", train=train)
    peak = TINY.learning_rate * TINY.batch_size / 256
    assert seen == [peak / 4**k for k in range(5)]
    assert read_config(out)["parameters"]["train"]["schedule"] == {"name": "halves", "base": 4.0}


def test_a_file_that_cannot_be_imported_is_a_problem_of_the_parameter(digits: Path) -> None:
    Path("plugins/schedules").mkdir(parents=True)
    Path("plugins/schedules/broken.py").write_text("import nowhere", encoding="utf-8")
    (problem,) = problems_of(TrainParams, TINY.model_dump() | {"schedule": {"name": "broken"}}, "train")
    assert "train.schedule: the schedule 'broken' cannot be imported: ModuleNotFoundError" in str(problem)


@pytest.mark.parametrize("name", names("schedules"))
def test_every_schedule_trains(digits: Path, name: str) -> None:
    out = run("simclr", "out", train=TINY.model_copy(update={"schedule": typed_block({"name": name})}))
    last = (out / "history.csv").read_text().splitlines()[-1].split(",")
    peak = TINY.learning_rate * TINY.batch_size / 256
    schedule = load_schedule(typed_block({"name": name}))
    assert float(last[3]) == pytest.approx(learning_rate_at(schedule, 14, 15, 5, peak))
