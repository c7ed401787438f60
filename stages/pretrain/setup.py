"""What one run was asked for: its row of the table, its seed, and every parameter, resolved."""

from __future__ import annotations

from dataclasses import dataclass

from reprise.config.params import ImageParams, RunRow
from reprise.reading.order import batch_count
from reprise.runtime.device import Compute
from reprise.training.optimizers import scaled_learning_rate
from reprise.training.params import TrainParams
from reprise.training.schedule import Rates, load_schedule
from stages.pretrain.params import MethodParams


@dataclass(frozen=True)
class Setup:
    """Everything that decides a run besides its images and labels.

    Attributes:
        row: name, method and label set.
        seed: of initialisation, order and views.
        image: size and channels of the input.
        train: the budget, with the run's own values in place of the shared ones.
        method: the run's block of parameters.
        compute: device, precision and threads, after `auto` was resolved.
    """

    row: RunRow
    seed: int
    image: ImageParams
    train: TrainParams
    method: MethodParams
    compute: Compute

    @property
    def name(self) -> str:
        """The run and its seed, as in paths and messages: `simclr/0`."""
        return f"{self.row.name}/{self.seed}"

    @property
    def peak(self) -> float:
        """The highest learning rate, scaled with the batch."""
        return scaled_learning_rate(self.train.learning_rate, self.train.batch_size)

    def rates(self, images: int) -> Rates:
        """Return the learning rate of every step of a training on so many images.

        Warm-up leaves at least one epoch for the schedule, or the peak would never be reached.
        """
        batches = batch_count(images, self.train.batch_size)
        warmup = min(self.train.warmup_epochs, self.train.epochs - 1)
        return Rates(load_schedule(self.train.schedule), self.train.epochs * batches, warmup * batches, self.peak)
