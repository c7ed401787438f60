"""The protocol of an extractor: pixels to features, without labels. One file in stages/mine/extractors each."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from reprise.config.params import StrictModel
from reprise.media.lookup import IMAGE
from reprise.runtime.device import Compute


class Extractor:
    """Base of all extractors.

    Attributes:
        Params: the typed parameter class.
        seeded: whether the features depend on the seed. Where they do not, one seed computes them and the other seeds
            of the same inputs copy them.
        modalities: the kinds of samples that it describes.
        trained: the folder of the model that `model_of` names; None where it names none.
    """

    Params: ClassVar[type[StrictModel]] = StrictModel
    seeded: bool = True
    modalities: ClassVar[tuple[str, ...]] = (IMAGE,)
    trained: Path | None = None

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
