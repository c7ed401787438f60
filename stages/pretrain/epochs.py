"""Epochs of pretraining: the order of the images, the fields that the method asked for, and its views.

Shape legend: n training images, B images in a batch, V views of an image, C channels, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from reprise.reading.order import Sampling, batch_count, global_batches
from reprise.reading.partners import Partners
from reprise.reading.tars_ahead import TarsAhead
from reprise.reading.windows import Windows, windowed_batches
from reprise.runtime.seeds import numpy_rng
from stages.pretrain.ahead import Ahead
from stages.pretrain.method import Batch, Field
from stages.pretrain.ranks.share import WHOLE, Share
from stages.pretrain.views.carried import CarriedMasks
from stages.pretrain.views.make import MakeViews
from stages.pretrain.views.staged import StagedViews


@dataclass(frozen=True)
class PretrainingEpoch:
    """One pass over the training images, made when it begins.

    Attributes:
        number: counted from 0.
        order: the image positions of each global batch, every image once.
        fields: (n,) arrays.
        facts: (n,) or (n, d) arrays.
        views: makes the views of a batch.
        device: where batches are put.
        following: draws the order of the next epoch; of none after the last.
        ahead: makes the next batch beside the step.
        partners: who stands beside whom, where batches hold pairs.
        share: which images of a batch this process embeds, where several train together.
        masks: moves masks with the views, for a method that reads some.
        draws_wanted: whether the method declares `needs_drawn`.
        tars: fetches what the next batches need; None where all of it is here.
    """

    number: int
    order: list[np.ndarray]
    fields: Mapping[Field, np.ndarray]
    facts: Mapping[str, np.ndarray]
    views: MakeViews
    device: torch.device
    following: Callable[[], list[np.ndarray]]
    ahead: Ahead
    partners: Partners | None = None
    share: Share = WHOLE
    masks: CarriedMasks | None = None
    draws_wanted: bool = True
    tars: TarsAhead | None = None

    def batch(self, number: int) -> Batch:
        """Return what a method's step gets: views (B, C, S, S), rows (B,), and a (B,) tensor for each field."""
        batch = self.ahead.take((self.number, number), lambda: self.make(number))
        if number + 1 < len(self.order):
            self.ahead.begin((self.number, number + 1), lambda: self.make(number + 1))
        return batch

    def make(self, number: int) -> Batch:
        """Make one batch from its rows."""
        rows, share = self.order[number], self.share
        if self.tars is not None:
            self.tars.at(self.number, number, self.order, self.following)
        own = share.positions(len(rows))
        made = self.views(rows, self.number, number, own)
        views = [self._moved(view) for view in made.pixels]
        if isinstance(self.views, StagedViews):
            self.views.expect([share.of(coming) for coming in self.order[number + 1 :] or self.following()])
        fields = {name: values[rows] for name, values in self.fields.items()}
        if self.partners is not None:
            fields |= {"partner": self.partners.places(rows), "weights": self.partners.weights_in(rows)}
        moved = {name: self._moved(torch.from_numpy(values)) for name, values in fields.items()}
        facts = {name: self._moved(torch.from_numpy(values[rows])) for name, values in self.facts.items()}
        carried = {} if self.masks is None else self.masks(rows, made.drawn, own)
        masks = {name: [self._moved(mask) for mask in of_views] for name, of_views in carried.items()}
        draws = made.drawn if self.draws_wanted else []
        return Batch(views, self._moved(torch.from_numpy(rows)), moved, facts, draws, share.world, masks)

    def _moved(self, x: Tensor) -> Tensor:
        return x.to(self.device, non_blocking=True)


@dataclass(frozen=True)
class PretrainingEpochs:
    """All epochs of a run. Each is a pure function of its number, so a resumed run meets the same batches.

    Attributes:
        count: epochs.
        batch_size: images in a global batch, at most.
        rows: (m,) positions of the images that are trained on.
        sampling: how batches are drawn.
        clusters: (n,) int64, -1 for none; `guided` and `rank` order by them whether or not the method sees them.
        fields: (n,) arrays that the method asked for.
        facts: (n,) or (n, d) arrays that the method reads.
        views: makes the views of a batch.
        seed: of the run.
        device: where batches are put.
        partners: the pairs that batches are made of (`sampling: partners`); else None.
        share: which images of a batch this process embeds, where several train together.
        masks: moves masks with the views, for a method that reads some; the views then keep what was drawn.
        draws_wanted: whether the method declares `needs_drawn`.
        windows: of tars, within which images are shuffled; None shuffles all of them.
        tars: fetches what the next batches need; None where all of it is here.
    """

    count: int
    batch_size: int
    sampling: Sampling
    rows: np.ndarray
    clusters: np.ndarray
    fields: Mapping[Field, np.ndarray]
    views: MakeViews
    seed: int
    device: torch.device
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)
    partners: Partners | None = None
    share: Share = WHOLE
    masks: CarriedMasks | None = None
    draws_wanted: bool = True
    windows: Windows | None = None
    tars: TarsAhead | None = None

    @property
    def samples(self) -> int:
        """Images in an epoch."""
        return len(self.rows) if self.partners is None else self.partners.shown

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        return batch_count(self.samples, self.batch_size)

    def epoch(self, number: int) -> PretrainingEpoch:
        """Make one epoch."""
        return PretrainingEpoch(
            number,
            self.order(number),
            self.fields,
            self.facts,
            self.views,
            self.device,
            lambda: self.order(number + 1) if number + 1 < self.count else [],
            self.ahead,
            self.partners,
            self.share,
            self.masks,
            self.draws_wanted,
            self.tars,
        )

    @cached_property
    def ahead(self) -> Ahead:
        """What is made ahead of the step; nothing on a CPU."""
        return Ahead(on_gpu=self.device.type == "cuda")

    def order(self, number: int) -> list[np.ndarray]:
        """Draw the global batches of one epoch; the published order of G-SimCLR (`rank`) never changes."""
        rng = numpy_rng(self.seed, "batches", 0 if self.sampling == "rank" else number)
        if self.sampling == "partners" and self.partners is not None:
            return self.partners.batches(self.batch_size, rng)
        if self.sampling == "partners" or self.partners is not None:
            raise ValueError(
                "batches are drawn by `partners` for methods that declare `needs_pairs`, and for no others"
            )
        clusters = self.clusters[self.rows]
        if self.windows is None:
            batches = global_batches(self.sampling, clusters, self.batch_size, rng)
        else:
            batches = windowed_batches(self.sampling, clusters, self.batch_size, self._drawn_windows(number), rng)
        return [self.rows[batch] for batch in batches]

    def windows_in(self, number: int) -> int:
        """Return into how many windows an epoch is cut."""
        return 1 if self.windows is None else len(self._drawn_windows(number))

    def _drawn_windows(self, number: int) -> list[np.ndarray]:
        assert self.windows is not None
        return self.windows.draw(numpy_rng(self.seed, "windows", 0 if self.sampling == "rank" else number))
