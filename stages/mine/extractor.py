"""The protocol of an extractor: pixels to features, without labels. One file in stages/mine/extractors each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from reprise.config.params import StrictModel
from reprise.media.lookup import IMAGE
from reprise.reading.by_path import SquaresByPath
from reprise.runtime.blocks.shared import newest
from reprise.runtime.blocks.use import cluster
from reprise.runtime.device import Compute
from reprise.storage.progress import Progress

BLOCK_BATCHES = 8  # batches that a Dask worker describes at a time
WORTH_CLUSTER = 2 * BLOCK_BATCHES  # batches; fewer are described before workers have loaded torch


class Extractor:
    """Base of all extractors.

    Attributes:
        Params: the typed parameter class.
        seeded: whether the features depend on the seed. Where they do not, one seed computes them and the other seeds
            of the same inputs copy them.
        modalities: the kinds of samples that it describes.
        trained: the folder of the model that `model_of` names; None where it names none.
        reads_once: whether an image is read once at most, or a few are twice, so that with Dask no process decodes all.
        by_path: the same images for Dask workers, which read them themselves; None where they may not.
    """

    Params: ClassVar[type[StrictModel]] = StrictModel
    seeded: bool = True
    modalities: ClassVar[tuple[str, ...]] = (IMAGE,)
    reads_once: ClassVar[bool] = False
    trained: Path | None = None
    by_path: SquaresByPath | None = None

    def __init__(self, params: StrictModel, seed: int, compute: Compute) -> None:
        self.params, self.seed, self.compute = params, seed, compute

    def files(self) -> list[Path]:
        """List what the features depend on beside the images and the parameters, such as weights; none by default."""
        return []

    @classmethod
    def modules(cls, params: StrictModel) -> list[str]:
        """List the modules that the extractor looks up by name, such as a backbone's; their code counts as its own."""
        return []

    @classmethod
    def model_of(cls, params: StrictModel) -> str | None:
        """Name the trained row of `models` that the extractor uses; none by default."""
        return None

    def features(self, images: np.ndarray, work: Path) -> np.ndarray:
        """Describe images.

        Args:
            images: (n, S, S, C) uint8, training images sorted by key. They may lie on the disk, or be decoded as they
                are read: take them in slices of some hundred, for `np.asarray(images)` holds all of them in memory.
            work: a locked folder for checkpoints.

        Returns:
            (n, d) float32.
        """
        raise TypeError(f"{type(self).__name__} does not describe images")

    def describer(self, *prepared: Any) -> Callable[[np.ndarray], np.ndarray]:
        """Return what describes a batch, (b, S, S, C) uint8 -> (b, d) float32, for `described`; also in a worker.

        Args:
            prepared: what `described` got.
        """
        raise TypeError(f"{type(self).__name__} does not describe images in batches")

    def described(self, images: np.ndarray, batch: int, label: str, *prepared: Any) -> np.ndarray:
        """Describe images a batch at a time, where there are many and a Dask cluster is in use, by its workers.

        Args:
            images: (n, S, S, C) uint8.
            batch: images at a time.
            label: of the progress.
            prepared: what `describer` needs and all batches share; it can be pickled and is small.

        Returns:
            (n, d) float32.
        """
        found = []
        with Progress(label, len(images)) as progress:
            for part in self._by_workers(images, batch, prepared) or self._here(images, batch, prepared):
                found.append(part)
                progress.advance(len(part))
        return np.concatenate(found)

    def _here(self, images: np.ndarray, batch: int, prepared: tuple[Any, ...]) -> Iterator[np.ndarray]:
        describe = self.describer(*prepared)
        for start in range(0, len(images), batch):
            yield describe(np.asarray(images[start : start + batch]))

    def _by_workers(self, images: np.ndarray, batch: int, prepared: tuple[Any, ...]) -> Iterator[np.ndarray] | None:
        worth = self.by_path is not None and self.compute.device == "cpu" and len(images) >= WORTH_CLUSTER * batch
        found = cluster() if worth else None
        if found is None:
            return None
        starts = range(0, len(images), BLOCK_BATCHES * batch)
        blocks = [range(start, min(start + starts.step, len(images))) for start in starts]
        code = [type(self).__module__, *self.modules(self.params)]
        return found.computed(partial(_describe_block, self, batch, prepared), blocks, code)


def _describe_block(extractor: Extractor, batch: int, prepared: tuple[Any, ...], rows: range) -> np.ndarray:
    """Describe rows in a Dask worker."""
    assert extractor.by_path is not None
    images = newest(("squares", extractor.by_path), extractor.by_path.open)
    key = "describer", type(extractor).__qualname__, extractor.params, extractor.seed
    describe = newest(key, lambda: extractor.describer(*prepared))
    return np.concatenate(
        [describe(images[start : min(start + batch, rows.stop)]) for start in range(rows.start, rows.stop, batch)]
    )
