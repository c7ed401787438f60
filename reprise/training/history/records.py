"""What is kept of a training besides its weights: losses, history, checkpoints, and the judgement before each of them.

`fit` hands everything over as copies (`OnHost`), and calls these functions in the order of the steps, at once or in a
second thread (`Aside`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from reprise.artifacts.weights.checkpoints import save_checkpoint
from reprise.config.errors import TrainingError
from reprise.networks.state import OnHost, arrays_of


@dataclass(frozen=True)
class Checkpoints:
    """Where the state of a training is kept, and how often.

    Attributes:
        folder: already locked by this process.
        every: steps between two checkpoints besides the one at the end of each epoch; None: only that one.
        writes: whether this process writes them; of several that train together, only the first one does.
    """

    folder: Path
    every: int | None = None
    writes: bool = True

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

    def start(self, step: int) -> None:
        """Look at the model before the first step of this process, after so many steps of earlier ones."""

    def look(self, batch: Any) -> dict[str, Tensor]:
        """Compute on the device what `inspect` needs of the last batch of an epoch, without waiting for it."""
        return {}

    def inspect(self, seen: dict[str, Tensor], logs: dict[str, Tensor]) -> tuple[dict[str, float], dict[str, float]]:
        """Return figures that go into the history, and figures that are only shown.

        Args:
            seen: what `look` returned.
            logs: the figures of the batch.
        """
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
        notes: sentences about how the steps were computed, where that is not what was asked for.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Records:
    """Writes down what one training does.

    Attributes:
        done: what is kept; this class alone changes its history and losses.
        observer: judges and adds figures.
        checkpoints: None where none are written.
        steps: of the whole training.
        label, advice: of the training, for messages.
        may_diverge: losses that are not finite pass.
        shown: the latest figures, for the progress line.
        passes: whether the latest judgement allows a checkpoint.
    """

    done: Trained
    observer: Observer
    checkpoints: Checkpoints | None
    steps: int
    label: str
    advice: str
    may_diverge: bool
    shown: dict[str, float] = field(default_factory=dict)
    passes: bool = True

    def read_losses(self, losses: OnHost, step: int, rate: float) -> None:
        """Take the losses of consecutive steps, the last one at `step`; refuse one that is not finite."""
        values = losses.wait().tolist()
        if not self.may_diverge:
            check_finite(values, step, self.label, f"of {self.steps}, learning rate {rate:.4g}", self.advice)
        self.done.losses += values
        self.shown = self.shown | {"loss": values[-1]}

    def begin(self, logs: OnHost) -> None:
        """Show the observer the first batch."""
        self.observer.begin(logs.wait())

    def judge(self, logs: OnHost, step: int) -> None:
        """Let the observer judge a step, after which a checkpoint is due or an epoch ends."""
        self.passes = self.observer.may_save(logs.wait(), step, self.steps)

    def end_epoch(self, seen: OnHost, logs: OnHost, number: int, step: int, rate: float) -> None:
        """Add a row to the history.

        Args:
            seen, logs: for the observer.
            number: of the epoch, counted from 1.
            step: steps taken.
            rate: of the last one.
        """
        kept, passing = self.observer.inspect(seen.wait(), logs.wait())
        mean = sum(self.done.losses) / len(self.done.losses)
        row = {"epoch": number, "step": step, "loss": mean, "learning_rate": rate, **kept}
        self.done.history.append(row)
        self.done.losses = []
        self.observer.log(number, row | passing)
        self.shown = self.shown | passing

    def save(self, state: OnHost, step: int) -> None:
        """Write a checkpoint where the latest judgement allows it.

        Args:
            state: `model` and `optimizer`.
            step: steps taken.

        Raises:
            TrainingError: a finite loss has made the weights not finite; a state like that would be no way back.
        """
        if self.checkpoints is None or not self.checkpoints.writes or not self.passes:
            return
        own = {"step": step, "history": self.done.history, "losses": self.done.losses, "observer": self.observer.state}
        arrays = arrays_of(state.wait())
        if not self.may_diverge:
            check_weights(arrays["model"], step, self.label, self.steps, self.advice)
        save_checkpoint(self.checkpoints.folder, step, own | arrays)


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


def check_weights(weights: Mapping[str, np.ndarray], step: int, label: str, steps: int, advice: str) -> None:
    """Refuse to keep weights that are not finite: the gradient of a finite loss may be infinite or no number.

    Args:
        weights: by name, after `step` steps.
        step: steps taken.
        label: names the training.
        steps: of the whole training.
        advice: what to do, an imperative sentence.

    Raises:
        TrainingError: naming the first such tensor.
    """
    for name, value in weights.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            found = f"{int((~np.isfinite(value)).sum()):,} of {value.size:,} values of {name}"
            where = f"{label}, after step {step} of {steps}"
            raise TrainingError("the weights are not finite, though the loss is", where=where, found=found, fix=advice)
