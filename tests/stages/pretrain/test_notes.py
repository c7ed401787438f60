"""What a run does otherwise than its parameters say: done as stated, said on the terminal, written to config.json."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from reprise.artifacts.weights.backbones import read_config
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import RunRow
from reprise.runtime.device import Compute
from reprise.training.params import TrainParams
from reprise.training.schedule import typed_block
from stages.pretrain.method import Method
from stages.pretrain.notes import notes_on
from stages.pretrain.parts.teacher import largest_start, momentum_at, random_share
from stages.pretrain.setup import Setup
from tests.stages.pretrain.conftest import IMAGE, TINY
from tests.stages.pretrain.methods.conftest import build
from tests.stages.pretrain.test_run import run


def setup_of(**train) -> Setup:
    params = TrainParams.model_validate(TINY.model_dump() | train)
    simclr = load_class("methods", "simclr", Method, "").Params()
    return Setup(RunRow(name="x", method="simclr", labels="none"), 0, IMAGE, params, simclr, Compute("cpu", "fp32", 1))


# ------------------------------------------------------------------------------------------------ batch and rate
@pytest.mark.parametrize(
    ("images", "batch", "held"),
    [(256, 256, 256), (257, 256, 129), (300, 256, 150), (1286, 256, 215), (500, 256, 250), (5, 4, 3), (1000, 64, 63)],
)
def test_the_rate_is_that_of_the_batches_that_are_trained_on(images: int, batch: int, held: int) -> None:
    setup = setup_of(batch_size=batch, learning_rate=0.2)
    assert setup.batch_size(images) == held
    assert setup.peak(images) == pytest.approx(0.2 * held / 256)
    assert setup_of(batch_size=batch, learning_rate=0.2, learning_rate_scaling="none").peak(images) == 0.2
    notes = notes_on(setup, build("simclr"), images)
    assert len(notes) == (held != batch)
    for note in notes:
        assert f"{images} images" in note
        assert f"holds {held} images instead of {batch}" in note
        assert f"{0.2 * held / 256:.4g} instead of {0.2 * batch / 256:.4g}" in note
    (unscaled,) = notes_on(setup_of(batch_size=256, learning_rate_scaling="none"), build("simclr"), 257)
    assert "learning rate" not in unscaled


def test_a_run_with_unequal_batches_and_a_long_warm_up_says_what_it_did(digits: Path, capsys, monkeypatch) -> None:
    """80 images in batches of 79 are two batches of 40; two epochs of a warm-up of five end at two fifths."""
    train = TINY.model_copy(update={"batch_size": 79, "epochs": 2, "warmup_epochs": 5})
    config = read_config(run("simclr", "out", train=train))
    peak = 0.2 * 40 / 256
    assert (config["batch_size_used"], config["learning_rate_scaled"]) == (40, pytest.approx(peak))
    rates = config["learning_rates"]
    assert (rates["warmup_steps"], rates["steps"]) == (4, 4)
    assert rates["first"] == pytest.approx(peak / 10)
    assert rates["highest"] == rates["last"] == pytest.approx(peak * 4 / 10)
    history = Path("out/history.csv").read_text(encoding="utf-8").splitlines()
    assert [float(line.split(",")[3]) for line in history[1:]] == pytest.approx([peak * 2 / 10, peak * 4 / 10])
    assert len(config["notes"]) == 2
    said = capsys.readouterr().err
    for note in config["notes"]:
        assert f"note: pretrain simclr seed 0: {note}" in said


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 5), (3, 3), (2, 100)])
def test_a_warm_up_is_never_cut(epochs: int, warmup: int) -> None:
    """It rises to the last step by what one step adds, whatever follows it."""
    setup = setup_of(epochs=epochs, warmup_epochs=warmup, batch_size=16, schedule=typed_block({"name": "step"}))
    rates = setup.rates(80)
    assert [rates.at(k) for k in range(rates.steps)] == pytest.approx(
        [rates.peak * (k + 1) / (5 * warmup) for k in range(rates.steps)]
    )
    (note,) = notes_on(setup, build("simclr"), 80)
    assert f"warm-up of {warmup} epochs" in note
    assert f"to {rates.peak * epochs / warmup:.4g} of {rates.peak:.4g}, and the schedule 'step' never begins" in note
    assert notes_on(setup_of(epochs=6, warmup_epochs=5), build("simclr"), 80) == []


# ------------------------------------------------------------------------------------------------ teachers
def naive_share(steps: int, start: float, end: float) -> float:
    """Follow a weight that begins at 1 and whose student stays at 0, with BYOL's momentum."""
    weight = 1.0
    for k in range(1, steps + 1):
        weight *= end - (end - start) * (math.cos(math.pi * k / steps) + 1) / 2
    return weight


@pytest.mark.parametrize(("steps", "share"), [(360, 0.49), (420, 0.43), (720, 0.24), (2000, 0.02)])
def test_the_share_of_the_random_start_is_the_product_of_all_momenta(steps: int, share: float) -> None:
    found = random_share(steps, 0.996, 1.0, "cosine")
    assert found == pytest.approx(naive_share(steps, 0.996, 1.0))
    assert found == pytest.approx(share, abs=0.005)


def test_other_schedules_of_the_momentum() -> None:
    assert random_share(100, 0.99, 0.99, "cosine") == pytest.approx(0.99**100)
    assert random_share(3, 0.9, 0.6, "linear") == pytest.approx(0.8 * 0.7 * 0.6)
    assert momentum_at(1.0, 0.996, 0.9992, "linear") == pytest.approx(0.9992)
    assert random_share(10, 0.0, 1.0, "linear") == pytest.approx(math.prod(k / 10 for k in range(1, 11)))


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("steps", [40, 360, 5000])
def test_the_advice_is_the_largest_momentum_that_suffices(steps: int, constant: bool) -> None:
    start = largest_start(steps, 1.0, "cosine", constant)
    assert random_share(steps, start, start if constant else 1.0, "cosine") <= 0.05
    above = start + 0.001
    assert random_share(steps, above, above if constant else 1.0, "cosine") > 0.05
    assert largest_start(1, 1.0, "cosine", constant=False) is None


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        (
            "dino",
            {},
            "49 % of the teacher is still its random start after 360 steps, and it is the network that is saved",
        ),
        ("msn", {}, "49 % of the teacher.*Set `momentum` to at most 0.9"),
        ("byol", {}, "49 % of the teacher.*and it makes the student's targets"),
        ("moco_v2", {}, "70 % of the teacher.*Set `momentum` and `momentum_end` to at most 0.991"),
    ],
)
def test_a_teacher_that_stays_random_is_noted(method: str, options: dict, words: str) -> None:
    (note,) = [n for n in build(method, steps=360, images=24, **options).notes if "teacher" in n]
    assert re.search(words, note)


def test_a_teacher_that_follows_is_not_noted() -> None:
    assert build("dino", steps=2000).notes == []
    assert build("moco_v2", steps=360, momentum=0.99, momentum_end=0.99).notes == []


# ------------------------------------------------------------------------------------------------ more than there is
@pytest.mark.parametrize(
    ("method", "options", "note"),
    [
        ("deepcluster_v2", {"prototypes": 65}, "`prototypes` is 64 instead of 65: there are no more training images."),
        (
            "odc",
            {"clusters": 40, "smallest": 1},
            "`clusters` is 32 instead of 40: that is half of the training images.",
        ),
        (
            "odc",
            {"clusters": 4, "smallest": 20},
            "`smallest` is 4 instead of 20: that is a quarter of the mean size of",
        ),
        (
            "nnclr",
            {"queue": 100},
            "`queue` is 64 instead of 100: no more vectors differ than there are training images.",
        ),
        ("swav", {"queue": 65}, "`queue` is 64 instead of 65"),
        ("moco_v2", {"queue": 65, "momentum": 0.1, "momentum_end": 0.1}, "`queue` is 64 instead of 65"),
    ],
)
def test_what_is_more_than_there_is_is_limited_with_a_note(method: str, options: dict, note: str) -> None:
    built = build(method, images=64, **options)
    assert [n.startswith(note) for n in built.notes] == [True]
    sizes = {"deepcluster_v2": lambda: built.centroids.shape[1], "odc": lambda: len(built.centroids)}
    if "prototypes" in note or "clusters" in note:
        assert sizes[method]() == (64 if method == "deepcluster_v2" else 32)


def test_what_there_is_is_not_noted() -> None:
    assert build("deepcluster_v2", images=64, prototypes=64).notes == []
    assert build("odc", images=64, clusters=32, smallest=1).notes == []
