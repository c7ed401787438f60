"""What methods ask of the loop: rates of their own, the teacher saved, crops on both paths, the recipe, bf16."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reprise.artifacts.weights.backbones import read_config, read_weights
from reprise.networks.state import arrays_of
from stages.pretrain.parts.teacher import TeacherMethod
from stages.pretrain.views import make
from tests.stages.pretrain.conftest import TINY
from tests.stages.pretrain.test_run import run

ONE = TINY.model_copy(update={"epochs": 1, "warmup_epochs": 0})


def test_the_rate_of_simsiams_predictor_stays_and_the_others_decays(digits, monkeypatch):
    real, seen = torch.optim.SGD.step, []

    def step(self, *arguments, **keywords):
        seen.append([group["lr"] for group in self.param_groups])
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    run("simsiam", "a")
    peak = TINY.learning_rate * TINY.batch_size / 256
    assert len(seen) == 15
    assert {rates[2] for rates in seen} == {rates[3] for rates in seen} == {peak}
    assert seen[0][0] < peak  # warm-up
    assert seen[-1][0] < 0.1 * peak  # decay


def test_barlow_twins_vectors_have_a_factor(digits, monkeypatch):
    real, seen = torch.optim.SGD.step, []
    monkeypatch.setattr(
        torch.optim.SGD,
        "step",
        lambda self, *a, **k: (seen.append([g["lr"] for g in self.param_groups]), real(self))[1],
    )
    run("barlow_twins", "a", train=ONE, bias_rate_factor=0.024)
    assert all(rates[2] == pytest.approx(0.024 * rates[0]) for rates in seen)


def test_weight_decay_rises_by_a_cosine_where_asked_for(digits, monkeypatch):
    """Of the student's matrices; vectors stay undecayed, and a resumed run goes on where it was."""
    real, seen = torch.optim.SGD.step, []

    def step(self, *arguments, **keywords):
        seen.append([group["weight_decay"] for group in self.param_groups])
        if len(seen) == 8:
            raise InterruptedError
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    with pytest.raises(InterruptedError):
        run("dino", "a", weight_decay=0.04, weight_decay_end=0.4)
    run("dino", "a", weight_decay=0.04, weight_decay_end=0.4)
    resumed = 15 - (len(seen) - 8)  # steps that a checkpoint held
    assert 0 < resumed < 8
    for k, decays in list(enumerate(seen[:8])) + list(enumerate(seen[8:], start=resumed)):
        want = 0.4 - 0.36 * (math.cos(math.pi * k / 15) + 1) / 2
        assert decays == [pytest.approx(want), 0.0]


@pytest.mark.parametrize("keep", ["student", "teacher"])
def test_the_network_that_was_asked_for_is_saved(digits, monkeypatch, keep):
    found = {}
    real = TeacherMethod.trained_backbone

    def watched(self):
        found.update(
            student=arrays_of(self.backbone.state_dict()), teacher=arrays_of(self.teacher.backbone.state_dict())
        )
        return real(self)

    monkeypatch.setattr(TeacherMethod, "trained_backbone", watched)
    out = run("byol", "a", train=ONE, keep=keep, momentum=0.9)
    saved, _ = read_weights(out)
    assert read_config(out)["weights"] == keep
    for name, value in saved.items():
        np.testing.assert_array_equal(value, found[keep][name])
    assert any((found["student"][n] != found["teacher"][n]).any() for n in saved)


def test_small_crops_work_image_by_image(digits, monkeypatch):
    monkeypatch.setattr(make, "BATCHED_SIDE", 0)  # every image is too large for the batched path
    out = run("swav", "a", train=ONE)
    assert read_config(out)["crops_seen"] == 4 * 80


def test_the_papers_recipe_is_written_down(digits):
    config = read_config(run("moco_v3", "a", train=ONE, recipe="paper", weight_decay=0.2))
    assert config["learning_rate_base"] == 1.5e-4
    assert config["learning_rate_scaled"] == pytest.approx(1.5e-4 * 16 / 256)
    assert config["parameters"]["train"]["optimizer"] == "adamw"
    assert config["parameters"]["train"]["weight_decay"] == 0.2
    assert config["parameters"]["method"]["momentum_schedule"] == "cosine"
    branches = [(view["views"], view["blur"], view["solarize"], view["saturation"]) for view in config["view_plan"]]
    assert branches == [(1, 1.0, 0.0, pytest.approx(0.2)), (1, 0.1, 0.2, pytest.approx(0.2))]


@pytest.mark.parametrize("method", ["dino", "w_mse"])
def test_a_run_in_bf16_repeats_itself(digits, method):
    half = ONE.model_copy(update={"precision": "bf16"})
    first, again = (read_weights(run(method, out, train=half))[0] for out in ("a", "b"))
    assert all((first[name] == again[name]).all() for name in first)
