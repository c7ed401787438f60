"""What one run was asked for: its row of the table, its seed, and every parameter, resolved."""

from __future__ import annotations

from dataclasses import dataclass, field

from reprise.artifacts.models import Start
from reprise.config.params import ImageParams
from reprise.config.shared_sections import DEFAULT_CACHE, CacheParams
from reprise.config.tables import AnyRun
from reprise.reading.order import batch_count
from reprise.runtime.device import Compute
from reprise.runtime.world import ALONE, World
from reprise.training.optimization.optimizers import scaled_learning_rate
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
        cache: bounds of the cache of decoded images.
        start: the weights that the run starts from and learns from.
        together: images that no batch parts: 2 where batches hold images beside their partners.
        world: the processes that train this run together.
    """

    row: AnyRun
    seed: int
    image: ImageParams
    train: TrainParams
    method: MethodParams
    compute: Compute
    cache: CacheParams = DEFAULT_CACHE
    start: Start = field(default_factory=Start)
    together: int = 1
    world: World = ALONE

    @property
    def name(self) -> str:
        """The run and its seed, as in paths and messages: `simclr/0`."""
        return f"{self.row.name}/{self.seed}"

    def batch_size(self, images: int) -> int:
        """Return the images of the largest batch that is really trained on.

        An epoch is cut into ceil(images / train.batch_size) batches whose sizes differ by at most one, so 257 images
        in batches of at most 256 make batches of 129 and 128.
        """
        return self.together * -(-images // (self.together * batch_count(images, self.train.batch_size)))

    def peak(self, images: int) -> float:
        """Return the learning rate at the end of the warm-up, scaled with the batch that is really trained on."""
        train = self.train
        return scaled_learning_rate(train.learning_rate, self.batch_size(images), train.learning_rate_scaling)

    def rates(self, images: int) -> Rates:
        """Return the learning rate of every step of a training on so many images.

        A warm-up that is longer than the training is taken at its word: the rate rises to the end.
        """
        train, batches = self.train, batch_count(images, self.train.batch_size)
        return Rates(
            load_schedule(train.schedule),
            train.epochs * batches,
            train.warmup_epochs * batches,
            self.peak(images),
            train.warmup_start,
            train.schedule_stretch,
        )
