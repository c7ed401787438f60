"""A training that collapses stops by the stated rule, and one that does not is left alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from reprise.artifacts.weights.backbones import read_config
from reprise.artifacts.weights.checkpoints import load_checkpoint
from reprise.config.errors import TrainingError
from reprise.measures.spectrum import feature_std, rankme
from reprise.storage.work_folder import file_digest
from reprise.training.history.records import Observer
from stages.pretrain.describe import write_history
from stages.pretrain.methods.distillation import byol as byol_module
from stages.pretrain.methods.distillation import simsiam as simsiam_module
from stages.pretrain.monitoring import observing
from stages.pretrain.monitoring.collapse import failure, judged
from stages.pretrain.monitoring.observing import RunObserver
from tests.stages.pretrain.conftest import TINY
from tests.stages.pretrain.test_run import run

# 80 digits in two batches, so that a check sees 40; the rate is high, and collapse takes a few steps.
SHORT = TINY.model_copy(update={"epochs": 10, "batch_size": 40, "learning_rate": 1.6, "warmup_epochs": 1})
LONG = SHORT.model_copy(update={"epochs": 80, "learning_rate": 0.2})


def vectors(spread: float, rows: int = 64, width: int = 48, directions: int = 48) -> torch.Tensor:
    """(rows, width) vectors around one of length one, spread in some directions."""
    rng = torch.Generator().manual_seed(0)
    centre = torch.zeros(width)
    centre[0] = 1.0
    noise = torch.randn(rows, directions, generator=rng) @ torch.randn(directions, width, generator=rng)
    return centre + spread * noise / noise.norm(dim=1).mean()


# ------------------------------------------------------------------------------------------------ the rule
SPREAD = {"features": vectors(5.0), "projections": vectors(5.0)}
LINE = vectors(20.0, directions=1)  # two directions both ways: spread, but of rank two


def test_equal_vectors_fail_and_different_ones_pass() -> None:
    start = judged(SPREAD, labelled=False)
    assert failure(start, start) is None
    for name, spread, passing in (("features", 0.02, 0.2), ("projections", 0.03, 0.4)):
        found = judged(SPREAD | {name: vectors(spread)}, labelled=False)
        assert f"the standard deviation of the {name} is" in failure(found, start)
        assert failure(judged(SPREAD | {name: vectors(passing)}, labelled=False), start) is None


def test_projections_on_a_line_fail_where_features_have_lost_directions_too() -> None:
    """Either alone is no collapse, and labels of two classes leave no more than two directions."""
    start = judged(SPREAD, labelled=False)
    assert feature_std(LINE) > 0.1
    assert rankme(LINE) < 3
    few = vectors(5.0, directions=6)
    assert rankme(few) < 0.6 * rankme(SPREAD["features"])
    both = {"features": few, "projections": LINE}
    assert "the RankMe of the projections is" in failure(judged(both, labelled=False), start)
    assert failure(judged(both, labelled=True), start) is None
    assert failure(judged(SPREAD | {"projections": LINE}, labelled=False), start) is None
    assert failure(judged(SPREAD | {"features": few}, labelled=False), start) is None
    short = {name: rows[:31] for name, rows in both.items()}  # RankMe is at most the number of rows
    assert failure(judged(short, labelled=False), start) is None


def test_what_begins_low_is_compared_with_its_start() -> None:
    """A head without normalisation begins with projections that are nearly equal (DINO): half of that is a decline."""
    low = judged({"projections": vectors(0.06)}, labelled=False)
    assert low["projections.std"] < 0.07
    assert failure(low, low) is None
    assert failure(judged({"projections": vectors(0.02)}, labelled=False), low) is not None


@pytest.mark.parametrize("name", ["features", "projections"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_vectors_that_are_not_finite_fail_also_where_one_value_is_such(name: str, value: float) -> None:
    """A loss may hide them: neither figure can be computed, and comparisons with them are all false."""
    start = judged(SPREAD, labelled=False)
    spoilt = vectors(5.0)
    spoilt[3, 5] = value
    found = judged(SPREAD | {name: spoilt}, labelled=False)
    assert failure(found, start) == f"the {name} have values that are not finite"
    assert failure(judged(SPREAD | {name: torch.full((64, 48), value)}, labelled=True), start) is not None


def test_figures_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    logs = SPREAD | {"projections": torch.full((64, 48), float("nan")), "agreement": torch.tensor(float("inf"))}
    found = observing.figures(logs)
    assert set(found) == {"feature_std", "rankme"}
    rows = [{"epoch": 1, "step": 2, "loss": 3.0, "agreement": 0.5}, {"epoch": 2, "step": 4, "loss": 2.0}]
    write_history(tmp_path / "history.csv", rows)
    assert (tmp_path / "history.csv").read_text().splitlines()[1:] == ["1,2,3,0.5", "2,4,2,"]


@pytest.mark.parametrize("answer", [0.0, 3.0])
def test_a_network_that_answers_alike_from_the_start_is_found(answer: float) -> None:
    """A backbone of zeros, or images that are all black, leave nothing to decline from."""
    alike = {"features": torch.full((64, 48), answer), "projections": vectors(5.0)}
    start = judged(alike, labelled=False)
    assert "the standard deviation of the features is 0, below 0.001" in failure(start, start)


def test_features_of_one_direction_fail_whatever_their_length_and_the_supervised_are_not_asked_for_directions() -> None:
    start = judged(SPREAD, labelled=False)
    line = torch.linspace(-1, 1, 64)[:, None] * torch.ones(48)
    for scale in (1e-20, 1.0, 1e20):
        both = dict.fromkeys(SPREAD, scale * line)
        assert "the RankMe of the projections is 1, below 3" in failure(judged(both, labelled=False), start)
        assert failure(judged(both, labelled=True), start) is None


def test_small_batches_and_methods_without_vectors_are_not_judged() -> None:
    assert judged({"features": torch.ones(7, 5), "projections": torch.ones(7, 5)}, labelled=False) == {}
    assert judged({"loss": torch.ones(())}, labelled=False) == {}
    assert failure({}, {}) is None


# ------------------------------------------------------------------------------------------------ in a run
def without_predictor_and_stop(self, batch):
    """BYOL whose target is its own projection, with its gradient."""
    features = [self.backbone(view) for view in batch.views]
    first, second = (self.projector(h) for h in features)
    return byol_module.byol_loss(first, second), {"features": features[0], "projections": first}


def without_stop(self, batch):
    """SimSiam whose targets pass gradients on."""
    features = [self.backbone(view) for view in batch.views]
    z1, z2 = (self.norm(self.projector(h)) for h in features)
    p1, p2 = self.predictor(z1), self.predictor(z2)
    loss = -(F.cosine_similarity(p1, z2, dim=1).mean() + F.cosine_similarity(p2, z1, dim=1).mean()) / 2
    return loss, {"features": features[0], "projections": z1}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the rule judge a training of twenty steps, which is too short for it otherwise."""
    monkeypatch.setattr(observing, "FIRST_STEP", 5)


WIDE = {"hidden": 64, "output": 64, "momentum": 0.9}


def test_byol_without_predictor_and_stopped_gradient_stops_with_its_last_good_checkpoint(
    digits, soon, monkeypatch
) -> None:
    monkeypatch.setattr(byol_module.BYOL, "step", without_predictor_and_stop)
    with pytest.raises(
        TrainingError, match=r"has collapsed \(pretrain byol seed 0, step \d+ of 20\).*below 0\.07"
    ) as e:
        run("byol", "out", train=SHORT, **WIDE)
    assert not Path("out").exists()
    kept = max(Path(".reprise/work").rglob("step-*.safetensors"))
    assert f"The last good checkpoint is {kept}" in str(e.value)
    state = load_checkpoint(kept)
    step = int(str(e.value).split("step ")[1].split(" ")[0])
    assert state["step"] <= step
    assert state["observer"]["failed"] == 0
    assert state["history"][-1]["projection_std"] > 0.07


def test_a_collapse_is_only_noted_where_the_user_wants_it_and_resumes_exactly(
    digits, soon, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(byol_module.BYOL, "step", without_predictor_and_stop)
    with pytest.raises(TrainingError, match="has collapsed"):
        run("byol", "out", train=SHORT, **WIDE)
    warned = SHORT.model_copy(update={"on_collapse": "warn"})
    resumed = run("byol", "out", train=warned, **WIDE)  # goes on from the last good checkpoint
    assert "warning: the training has collapsed (pretrain byol seed 0, step" in capsys.readouterr().err
    config = read_config(resumed)
    assert config["collapse"]["step"] < 20
    assert "standard deviation of the projections" in config["collapse"]["found"]
    assert config["steps"] == 20
    assert file_digest(run("byol", "whole", train=warned, **WIDE)) == file_digest(resumed)


def test_the_same_training_with_predictor_and_stopped_gradient_goes_on(digits, soon) -> None:
    assert (
        read_config(run("byol", "out", train=SHORT.model_copy(update={"learning_rate": 0.2}), **WIDE))["collapse"]
        is None
    )


@pytest.mark.slow
def test_simsiam_without_stopped_gradient_stops(digits, monkeypatch) -> None:
    """Its projections are normalised, so they stay apart: what falls is their rank."""
    monkeypatch.setattr(simsiam_module.SimSiam, "step", without_stop)
    long = LONG.model_copy(update={"epochs": 200, "learning_rate": 0.8})
    with pytest.raises(TrainingError, match="has collapsed.*RankMe of the projections"):
        run("simsiam", "out", train=long, hidden=64, output=64, bottleneck=16)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["byol", "simsiam", "simclr", "vicreg", "msn", "emp_ssl"])
def test_healthy_methods_are_left_alone(digits, method) -> None:
    options = {"simclr": {}, "vicreg": {"optimizer": "adamw", "learning_rate": 0.004}}.get(method, {})
    assert read_config(run(method, "out", train=LONG, **options))["collapse"] is None


@pytest.mark.slow
@pytest.mark.parametrize(("method", "outputs"), [("dino", 12), ("swav", 6)])
def test_methods_with_far_too_few_outputs_collapse_and_are_found(digits, method, outputs) -> None:
    """They end at the logarithm of the number of outputs, the loss of a network that tells nothing apart."""
    out = run(method, "out", train=LONG.model_copy(update={"on_collapse": "warn"}))
    assert read_config(out)["collapse"] is not None
    last = (out / "history.csv").read_text(encoding="utf-8").splitlines()[-1].split(",")
    assert float(last[2]) == pytest.approx(math.log(outputs), abs=0.02)


def test_no_state_is_saved_after_a_check_that_failed(monkeypatch, tmp_path) -> None:
    """One failure is not yet a collapse, but its state is not kept; a check that passes makes up for it."""
    low, high = {"projections": vectors(0.01)}, {"projections": vectors(5.0)}
    watch = RunObserver(type("M", (), {"needs": ()})(), None, None, "x", "stop", tmp_path)
    watch.begin(high)
    steps = ((10, low), (200, low), (300, high), (400, low), (500, high))
    saved = [watch.may_save(logs, step, 1000) for step, logs in steps]
    assert saved == [False, False, True, False, True]
    assert watch.may_save(low, 600, 1000) is False
    with pytest.raises(TrainingError, match="There is no checkpoint from before"):
        watch.may_save(low, 700, 1000)
    late = RunObserver(type("M", (), {"needs": ()})(), None, None, "x", "stop", tmp_path)
    late.begin(high)
    with pytest.raises(TrainingError, match="step 999 of 1000"):  # the last check decides alone
        late.may_save(low, 999, 1000)
    json.dumps(watch.state)  # plain values, for checkpoints
    assert Observer().may_save(low, 999, 1000)
