"""Learning-rate schedules: the formulas restated, their ends, and what is refused."""

from __future__ import annotations

import math

import pytest

from reprise.config.errors import ParameterError
from reprise.config.params import parse, problems_of
from reprise.config.plug_ins.registry import names
from reprise.training.optimization.annealing import anneal, half_cosine
from reprise.training.params import TrainParams
from reprise.training.schedule import ScheduleParams, learning_rate_at, load_schedule, typed_block
from stages.pretrain.params import MethodParams
from tests.stages.pretrain.conftest import TINY

STEPS, WARMUP, PEAK = 50, 10, 0.3
STEPWISE = {"name": "step", "milestones": [0.5, 0.9], "factor": 0.2}


def rates(block: dict, steps: int = STEPS, warmup: int = WARMUP) -> list[float]:
    schedule = load_schedule(typed_block(block))
    return [learning_rate_at(schedule, step, steps, warmup, PEAK) for step in range(steps)]


@pytest.mark.parametrize("name", names("schedules"))
def test_every_schedule_warms_up_in_a_line_and_stays_within_the_peak(name: str) -> None:
    found = rates({"name": name})
    assert found[:WARMUP] == [PEAK * (k + 1) / WARMUP for k in range(WARMUP)]
    assert found[WARMUP] == PEAK  # the first step after the warm-up
    assert all(0 <= rate <= PEAK for rate in found)
    assert all(later <= earlier for earlier, later in zip(found[WARMUP:], found[WARMUP + 1 :], strict=False))
    assert rates({"name": name}, steps=1, warmup=0) == [PEAK]


def test_each_schedule_is_its_formula() -> None:
    def cosine(k: int) -> float:
        return PEAK * 0.5 * (1.0 + math.cos(math.pi * (k - WARMUP) / (STEPS - WARMUP)))

    def line(k: int, begin: int, end: float) -> float:
        return PEAK * (1 - (1 - end) * max(0, k - begin) / (STEPS - begin))

    after = range(WARMUP, STEPS)
    assert rates({"name": "cosine"})[WARMUP:] == [cosine(k) for k in after]  # to the last bit
    assert rates({"name": "cosine", "end": 0.1})[WARMUP:] == pytest.approx([0.03 + 0.9 * cosine(k) for k in after])
    assert rates({"name": "constant"})[WARMUP:] == [PEAK] * len(after)
    assert rates({"name": "linear", "end": 0.2})[WARMUP:] == pytest.approx([line(k, WARMUP, 0.2) for k in after])
    decay = {"name": "warmup_stable_decay", "decay": 0.4, "end": 0.1}
    assert rates(decay)[WARMUP:] == pytest.approx([line(k, 30, 0.1) for k in after])
    stairs = [PEAK] * 15 + [PEAK * 0.2] * 20 + [PEAK * 0.04] * 5  # milestones at steps 25 and 45
    assert rates(STEPWISE)[WARMUP:] == pytest.approx(stairs)


def test_a_decay_longer_than_the_rest_begins_at_the_end_of_the_warm_up() -> None:
    assert rates({"name": "warmup_stable_decay", "decay": 1.0}) == pytest.approx(rates({"name": "linear"}))


def test_half_a_cosine_is_exact_at_both_ends() -> None:
    assert [half_cosine(0), half_cosine(1), half_cosine(7, 7)] == [1, 0, 0]
    assert half_cosine(3, 6) == pytest.approx(0.5)
    assert [anneal(0.0, 0.996, 1.0), anneal(1.0, 0.996, 1.0)] == [0.996, 1.0]


def test_blocks_are_typed_and_overridden_per_run() -> None:
    assert TINY.schedule == typed_block({"name": "cosine"})
    raw = TINY.model_dump() | {"schedule": STEPWISE}
    train = parse(TrainParams, raw, "train")
    assert train.model_dump()["schedule"] == STEPWISE
    assert MethodParams().applied_to(train).schedule == train.schedule
    own = parse(MethodParams, {"schedule": {"name": "linear", "end": 0.5}}, "methods.simclr")
    assert own.applied_to(train).model_dump()["schedule"] == {"name": "linear", "end": 0.5}
    assert parse(TrainParams, train.model_dump(), "train") == train  # what config.json holds can be read again


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"name": "cosin"}, r"train\.schedule\.name: must be one of .*linear.*Found: 'cosin'. Did you mean 'cosine'"),
        ({"name": "step", "facto": 0.1}, r"schedule\.facto: unknown parameter.*Did you mean 'factor'"),
        ({"name": "constant", "end": 0.1}, r"schedule\.end: unknown parameter.*Known here: name"),
        ({"name": "step", "factor": 2.0}, r"schedule\.factor: input should be less than 1"),
        ({"name": "step", "milestones": [0.8, 0.2]}, r"schedule\.milestones: must ascend"),
        ("cosine", r"train\.schedule: must be a block with a name.*Write {name: cosine}"),
        ({"end": 0.1}, r"train\.schedule: must be a block with a name"),
        (None, r"train\.schedule: input should be a valid dictionary"),
    ],
)
def test_wrong_blocks_are_named_by_their_key(block: object, said: str) -> None:
    (problem,) = problems_of(TrainParams, TINY.model_dump() | {"schedule": block}, "train")
    with pytest.raises(ParameterError, match=said):
        parse(TrainParams, TINY.model_dump() | {"schedule": block}, "train")
    if block is not None:  # in a run's own block None takes train's
        (own,) = problems_of(MethodParams, {"schedule": block}, "methods.simclr")
        assert str(own) == str(problem).replace("train.", "methods.simclr.", 1)


def test_a_name_that_is_no_schedule_is_refused_where_it_is_built() -> None:
    with pytest.raises(ParameterError, match="unknown schedule 'cosin'"):
        load_schedule(ScheduleParams(name="cosin"))
