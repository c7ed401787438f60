"""The block `symmetry` of a run: its term counts once and moves kernels alone, and other runs stay as they are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from reprise.artifacts.weights.backbones import read_config, read_weights
from reprise.config.errors import TrainingError
from reprise.config.params import problems_of, read_yaml
from reprise.objectives.weights.symmetry import kernel_asymmetry
from reprise.training.batches import backward
from reprise.training.params import SymmetryParams, TrainParams
from stages.check.sketches import sketch_runs
from stages.pretrain.parts.symmetry import kernels_of, with_symmetry
from tests.stages.pretrain.conftest import TINY
from tests.stages.pretrain.methods.conftest import build, random_batch
from tests.stages.pretrain.test_run import run

ONE = TINY.model_copy(update={"epochs": 1, "warmup_epochs": 0})


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_the_term_is_added_once_and_moves_kernels_only(micro_batches):
    params, found = SymmetryParams(weight=3.0, channels="scalar"), []
    for block in (None, params):
        method = build("simclr")
        loss, figures = backward(
            with_symmetry(method.step, method.backbone, block), random_batch(method), micro_batches
        )
        found.append((float(loss), {n: p.grad for n, p in method.named_parameters()}, figures, method))
    (plain, before, _, _), (regular, after, figures, method) = found
    kernel = method.backbone.convolution.weight
    term = kernel_asymmetry([kernel.detach().requires_grad_()], "c4", "scalar")
    assert regular - plain == pytest.approx(3.0 * float(term.detach()), abs=1e-6)
    assert float(figures["asymmetry"]) == pytest.approx(float(term.detach()), abs=1e-6)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"backbone.convolution.weight"}


def test_without_kernels_it_is_refused():
    step = build("simclr").step
    for network in (nn.Linear(3, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(3, 3, (1, 3))):
        with pytest.raises(TrainingError, match=f"none in {type(network).__name__}"):
            with_symmetry(step, network, SymmetryParams())
    parted = nn.Conv2d(3, 3, 3)
    parted.weight.full_tensor = lambda: parted.weight  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match="shard_weights"):
        with_symmetry(step, parted, SymmetryParams())
    assert with_symmetry(step, nn.Linear(3, 3), None) is step


def test_a_run_is_drawn_towards_a_symmetry_and_says_so(digits):
    figures = []
    for out, block in (("a", None), ("b", {"group": "c4", "weight": 100.0})):
        folder = run("simclr", out, train=ONE, symmetry=block)
        stated = read_config(folder)["parameters"]
        weights, _ = read_weights(folder)
        kernels = [torch.from_numpy(v) for name, v in weights.items() if v.ndim == 4]
        figures.append(float(kernel_asymmetry(kernels, "c4", "regular")))
        assert ("symmetry" in stated["train"]) == (block is not None)
    assert stated["train"]["symmetry"] == {"group": "c4", "weight": 100.0, "channels": "regular"}
    assert figures[1] < figures[0] - 0.01  # in five steps at a low rate


def test_wrong_blocks_are_named():
    raw = TINY.model_dump() | {"symmetry": {"group": "c8", "weight": 0}}
    assert [p.path for p in problems_of(TrainParams, raw, "train")] == ["train.symmetry.group", "train.symmetry.weight"]
    assert kernels_of(SimpleNamespace(modules=list)) == []  # type: ignore[arg-type]


def test_a_backbone_without_kernels_is_refused_before_anything_runs(repository):
    raw = read_yaml(repository / "params.yaml")
    raw["methods"]["simclr"]["symmetry"] = {"group": "d4"}
    assert [p for p in sketch_runs(raw, 100)[1] if "symmetry" in p.path] == []
    raw["methods"]["simclr"]["shard_weights"] = True
    assert [(p.path, p.found) for p in sketch_runs(raw, 100)[1]] == [
        ("methods.simclr.symmetry", "parts of weights (train.shard_weights)")
    ]
