"""The training loop: one function, read from top to bottom. Every network of Reprise that has gradients learns here.

Pretraining passes all that there is; the denoising autoencoder, fine-tuning and moment probing leave out what they do
not need. Whatever is random is a pure function of the seed and the number of the step or epoch, so a run that was
killed takes the steps that it would have taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reprise.artifacts.checkpoints import latest_checkpoint, save_checkpoint
from reprise.config.errors import TrainingError
from reprise.networks.state import arrays_of, load_optimizer, tensors_of
from reprise.runtime.device import Compute
from reprise.runtime.seeds import seed_torch
from reprise.storage.progress import Progress
from reprise.training.epochs import Epochs
from reprise.training.optimizers import set_rates
from reprise.training.schedule import Rates

# Steps between two readings of the loss. On a GPU a reading makes the host wait for all the work that it has queued.
READ_EVERY = {"cpu": 1, "cuda": 50}
ADVICE = "Lower the learning rate or set train.precision to fp32."
Step = Callable[[Any], tuple[Tensor, dict[str, Tensor]]]  # batch -> loss to differentiate, figures for the observer
Hook = Callable[[float], None]  # gets the progress of the training


@dataclass(frozen=True)
class Checkpoints:
    """Where the state of a training is kept, and how often.

    Attributes:
        folder: already locked by this process.
        every: steps between two checkpoints besides the one at the end of each epoch; None: only that one.
    """

    folder: Path
    every: int | None = None

    def due(self, steps_done: int) -> bool:
        """Tell whether a checkpoint is due after so many steps."""
        return self.every is not None and steps_done % self.every == 0


class Observer:
    """Looks at the last batch of each epoch. It never changes the weights. This one does nothing.

    Attributes:
        state: what it must remember across an interruption; plain values, kept in checkpoints.
    """

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def inspect(self, batch: Any, logs: dict[str, Tensor]) -> tuple[dict[str, float], dict[str, float]]:
        """Return figures that go into the history, and figures that are only shown."""
        return {}, {}

    def log(self, epoch: int, figures: dict[str, float]) -> None:
        """Take the figures of an epoch, counted from 1, for a live display."""

    def begin(self, logs: dict[str, Tensor]) -> None:
        """Take the figures of the first batch, before the first step."""

    def may_save(self, logs: dict[str, Tensor], step: int, steps: int) -> bool:
        """Judge a step before it is taken, where a checkpoint is due or an epoch ends.

        Args:
            logs: the figures of its batch.
            step: counted from 0.
            steps: of the whole training.

        Returns:
            Whether a checkpoint may be written after it.

        Raises:
            TrainingError: the training must not go on.
        """
        return True


@dataclass
class Trained:
    """How far a training has come, besides its weights.

    Attributes:
        step: steps taken.
        history: one row per finished epoch.
        losses: of the unfinished epoch's steps.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def _nothing(progress: float) -> None:
    """Stand in for a hook that is not needed."""


def fit(
    model: nn.Module,
    step: Step,
    epochs: Epochs,
    optimizer: torch.optim.Optimizer,
    compute: Compute,
    label: str,
    *,
    rates: Rates | None = None,
    seed: int | None = None,
    after_backward: Hook = _nothing,
    after_step: Hook = _nothing,
    checkpoints: Checkpoints | None = None,
    observer: Observer | None = None,
    may_diverge: bool = False,
    advice: str = ADVICE,
) -> Trained:
    """Train `model` in place, from its newest checkpoint on where there is one.

    Args:
        model: on the device already; its state, and only that, is kept in checkpoints beside the optimiser's.
        step: the loss of a batch; runs under autocast where `compute` says so.
        epochs: what is trained on.
        optimizer: of the parameters of `model`.
        compute: device and precision.
        label: names the training on the progress line and in errors ("pretrain simclr seed 0").
        rates: learning rate of each step; None leaves the optimiser's rates as they are.
        seed: reseeds torch's global generator before each step; None leaves it alone (nothing in `step` is random).
        after_backward: gets the share of steps done, in [0, 1), before the optimiser's step: clipping, freezing.
        after_step: gets the share of steps done, in (0, 1], after it: moving averages, queues, centres.
        checkpoints: None for trainings so short that they start afresh.
        observer: looks at each epoch's end.
        may_diverge: go on after a loss that is not finite, for callers that compare several learning rates.
        advice: what to do about a loss that is not finite.

    Raises:
        TrainingError: the loss is not finite; the last checkpoint before it stays.
    """
    observer = observer or Observer()
    steps, total = epochs.count * epochs.batches, epochs.count * epochs.samples
    advice = advice if checkpoints is None else f"{advice} Checkpoints are in {checkpoints.folder}."
    model.train()

    # ------------------------------------------------------------------ resume
    done = Trained()
    if checkpoints is not None and (state := latest_checkpoint(checkpoints.folder)) is not None:
        done = restore(state, model, optimizer, observer)
    unread: list[Tensor] = []  # losses that are still on the device
    shown: dict[str, float] = {}  # on the progress line: the last loss read, and the observer's last figures

    counts = {"epoch": epochs.count, "step": steps}
    with Progress(label, total, "images", total * done.step // max(1, steps), counts) as progress:
        while done.step < steps:
            number, first = divmod(done.step, epochs.batches)  # a resumed epoch begins in its middle
            epoch = epochs.epoch(number)
            for k in range(first, epochs.batches):
                # -------------------------------------------------------- forward
                if seed is not None:
                    seed_torch(seed, "step", done.step)
                rate = set_rates(optimizer, rates, done.step, steps)
                batch = epoch.batch(k)
                with compute.autocast():
                    loss, logs = step(batch)

                # ----------------------------------------------- look at the loss
                # Before the weights change, and always before they are saved: a checkpoint is never a broken one.
                ends = k == epochs.batches - 1
                saves = ends or (checkpoints is not None and checkpoints.due(done.step + 1))
                unread.append(loss.detach())
                if saves or (done.step + 1) % READ_EVERY[compute.device] == 0:
                    losses = torch.stack(unread).tolist()
                    if not may_diverge:
                        check_finite(losses, done.step, label, f"of {steps}, learning rate {rate:.4g}", advice)
                    done.losses += losses
                    unread, shown = [], shown | {"loss": losses[-1]}
                if done.step == 0:
                    observer.begin(logs)
                saves = saves and observer.may_save(logs, done.step, steps)

                # ------------------------------------------------ backward, update
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                after_backward(done.step / steps)
                optimizer.step()
                done.step += 1
                after_step(done.step / steps)
                progress.advance(len(epoch.order[k]), epoch=number + 1, step=done.step, lr=rate, **shown)

                # -------------------------------------- end of an epoch, checkpoint
                if ends:
                    kept, passing = observer.inspect(batch, logs)
                    mean = sum(done.losses) / len(done.losses)
                    row = {"epoch": number + 1, "step": done.step, "loss": mean, "learning_rate": rate, **kept}
                    done.history.append(row)
                    done.losses = []
                    observer.log(number + 1, row | passing)
                    shown |= passing
                if checkpoints is not None and saves and done.step < steps:
                    save_checkpoint(checkpoints.folder, done.step, snapshot(model, optimizer, done, observer))
    return done


def check_finite(losses: list[float], step: int, label: str, details: str, advice: str) -> None:
    """Refuse to go on after a loss that is not finite.

    Args:
        losses: of consecutive steps, the last one at `step`.
        step: counted from 0.
        label, details: of the training; they stand around the number of the step in the message.
        advice: what to do, an imperative sentence.

    Raises:
        TrainingError: naming the first step whose loss is not finite.
    """
    for number, value in enumerate(losses, start=step + 1 - len(losses)):
        if not math.isfinite(value):
            where = f"{label}, step {number} {details}"
            raise TrainingError("the loss is not finite", where=where, found=value, fix=advice)


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer, done: Trained, observer: Observer) -> dict[str, Any]:
    """Return the whole state between two steps, as arrays and plain values.

    Random generators have no place in it, because they are reseeded at each step.
    """
    return {
        "step": done.step,
        "history": done.history,
        "losses": done.losses,
        "observer": observer.state,
        "model": arrays_of(model.state_dict()),
        "optimizer": arrays_of(optimizer.state_dict()),
    }


def restore(state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, observer: Observer) -> Trained:
    """Load a `snapshot` into model, optimiser and observer, and return how far it had come."""
    observer.state = state["observer"]
    model.load_state_dict(tensors_of(state["model"]), strict=True)
    load_optimizer(optimizer, state["optimizer"])
    return Trained(state["step"], state["history"], state["losses"])
