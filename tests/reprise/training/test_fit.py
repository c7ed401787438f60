"""The training loop on a tiny regression: what users pass, what they leave out, and exact resume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reprise.artifacts.weights.checkpoints import latest_checkpoint
from reprise.config.errors import TrainingError
from reprise.runtime.device import Compute
from reprise.runtime.seeds import numpy_rng
from reprise.training.epochs import ShuffledEpochs
from reprise.training.fit import fit
from reprise.training.history.records import Checkpoints, Observer, Trained
from reprise.training.schedule import Rates, load_schedule, typed_block

FP32 = Compute("cpu", "fp32", 1)
X = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
Y = X.sum(dim=1, keepdim=True)
EPOCHS, BATCHES = 4, 3


@dataclass(frozen=True)
class Pass:
    order: list[np.ndarray]

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        return X[self.order[number]], Y[self.order[number]]


class Passes:
    """Epochs that are pure functions of their number; `made` lists the numbers that were asked for."""

    count, batches, samples = EPOCHS, BATCHES, len(X)

    def __init__(self) -> None:
        self.made: list[int] = []

    def epoch(self, number: int) -> Pass:
        self.made.append(number)
        return Pass(np.array_split(numpy_rng(0, number).permutation(len(X)), BATCHES))


def trained(work: Path | None = None, stop_after: int = 100, **options) -> tuple[nn.Module, Trained, Passes]:
    """A linear layer under dropout, whose draws come from the step's seed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    passes, steps = Passes(), []

    def step(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        steps.append(1)
        if len(steps) > stop_after:
            raise KeyboardInterrupt
        loss = (model(batch[0]) - batch[1]).square().mean()
        return loss, {"loss": loss}

    options = {"seed": 7, "checkpoints": Checkpoints(work, 2) if work else None} | options
    return model, fit(model, step, passes, optimizer, FP32, "a line", **options), passes


@pytest.mark.parametrize("stop_after", range(1, EPOCHS * BATCHES))
def test_a_resumed_training_is_the_unbroken_one(tmp_path: Path, stop_after: int) -> None:
    want, whole, _ = trained()
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, stop_after)
    found, resumed, passes = trained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(want.parameters(), found.parameters(), strict=True))
    assert resumed.history == whole.history
    kept = max([k for k in range(stop_after + 1) if k % 2 == 0 or k % BATCHES == 0])
    assert passes.made == list(range(kept // BATCHES, EPOCHS))  # and no epoch is made twice


def test_without_checkpoints_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, done, passes = trained()
    assert (done.step, len(done.history), passes.made) == (EPOCHS * BATCHES, EPOCHS, list(range(EPOCHS)))
    assert list(tmp_path.iterdir()) == []


def test_hooks_get_the_progress_and_rates_are_set(tmp_path: Path) -> None:
    before: list[float] = []
    after: list[float] = []
    rates = Rates(load_schedule(typed_block({"name": "linear"})), EPOCHS * BATCHES, 3, 0.2)
    _, done, _ = trained(after_backward=before.append, after_step=after.append, rates=rates)
    total = EPOCHS * BATCHES
    assert before == [k / total for k in range(total)]
    assert after == [(k + 1) / total for k in range(total)]
    assert [row["learning_rate"] for row in done.history] == [rates.at(k) for k in (2, 5, 8, 11)]
    _, constant, _ = trained()
    assert {row["learning_rate"] for row in constant.history} == {0.1}


def test_an_observer_adds_to_the_history_and_logs_the_rest() -> None:
    rows: list[dict[str, float]] = []

    class Watching(Observer):
        def look(self, batch):
            return {"size": torch.tensor(float(len(batch[0])))}

        def inspect(self, seen, logs):
            return {"last": float(logs["loss"])}, {"size": float(seen["size"])}

        def log(self, epoch, figures):
            rows.append(figures | {"number": epoch})

    _, done, _ = trained(observer=Watching())
    assert [set(row) for row in done.history] == [{"epoch", "step", "loss", "learning_rate", "last"}] * EPOCHS
    assert [row["number"] for row in rows] == [1, 2, 3, 4]
    assert all(row["size"] == 3 for row in rows)


def test_a_loss_that_is_not_finite_stops_unless_the_caller_compares_rates(tmp_path: Path) -> None:
    rates = Rates(load_schedule(typed_block({"name": "constant"})), EPOCHS * BATCHES, 0, 1e30)
    with pytest.raises(
        TrainingError, match=rf"a line, step \d+ of 12, .*Lower it\. Checkpoints are in .*{tmp_path.name}"
    ):
        trained(tmp_path, rates=rates, advice="Lower it.")
    _, done, _ = trained(rates=rates, may_diverge=True)
    assert done.step == EPOCHS * BATCHES


@pytest.mark.parametrize(("drop_last", "batches", "samples"), [(True, 3, 9), (False, 4, 10)])
def test_shuffled_epochs_meet_every_row_once(drop_last: bool, batches: int, samples: int) -> None:
    passes = ShuffledEpochs(2, 3, np.arange(5, 15), lambda rows: rows, np.random.default_rng(0), drop_last)
    assert (passes.batches, passes.samples) == (batches, samples)
    first, second = passes.epoch(0), passes.epoch(1)
    for epoch in (first, second):
        seen = np.concatenate([epoch.batch(k) for k in range(batches)])
        assert len(set(seen.tolist())) == len(seen) == samples
        assert set(seen.tolist()) <= set(range(5, 15))
    assert not np.array_equal(first.batch(0), second.batch(0))


def test_weights_that_a_finite_loss_has_broken_are_no_checkpoint(tmp_path: Path) -> None:
    """The root of zero has a loss of 0 and a gradient that is no number: the loss tells of it a step later."""
    model, steps = nn.Linear(3, 1), []

    def step(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        steps.append(1)
        loss = (model(batch[0]) - batch[1]).square().mean()
        if len(steps) == 4:  # after it a checkpoint is due
            loss = loss + (model.weight - model.weight.detach()).square().sum().sqrt()
        return loss, {}

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with pytest.raises(
        TrainingError, match=r"weights are not finite.*a line, after step 4 of 12.*3 of 3 values of weight"
    ):
        fit(model, step, Passes(), optimizer, FP32, "a line", checkpoints=Checkpoints(tmp_path, 2))
    kept = latest_checkpoint(tmp_path)
    assert kept["step"] == 3
    assert np.isfinite(kept["model"]["weight"]).all()
