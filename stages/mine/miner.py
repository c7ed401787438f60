"""The protocol of a miner: features to clusters. One file in stages/mine/miners each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from stages.contracts.errors import MiningError
from stages.contracts.params import StrictModel


@dataclass(frozen=True)
class Mined:
    """A label set.

    Attributes:
        clusters: (n,) int64 from 0, -1 for no label.
        distance: (n,) float32 to the own centre, or None.
        confidence: (n,) float32 in [0, 1], or None.
    """

    clusters: np.ndarray
    distance: np.ndarray | None = None
    confidence: np.ndarray | None = None


class Miner:
    """Base of all miners.

    Attributes:
        Params: the typed parameter class.
        uses_truth: gets the true labels; only the miner `truth` may, and its label set says so.
    """

    Params: ClassVar[type[StrictModel]] = StrictModel
    uses_truth: ClassVar[bool] = False

    def __init__(self, params: StrictModel, seed: int) -> None:
        self.params, self.seed = params, seed

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Find clusters.

        Args:
            features: (n, d) float32, finite, sorted by key.
            truth: the labels for miners that declare `uses_truth`, else None.
            work: a folder for checkpoints, empty or as an interrupted process left it.
        """
        raise TypeError(f"{type(self).__name__} does not mine")


def check_clusters(features: np.ndarray, clusters: int, where: str) -> None:
    """Refuse more clusters than distinct images and features that are all the same.

    Raises:
        MiningError: saying which.
    """
    if clusters > len(features):
        raise MiningError(
            "there are fewer images than clusters",
            where=where,
            found=f"{len(features)} images, {clusters} clusters",
            fix=f"Set it to at most {len(features)}.",
        )
    if len(features) > 1 and (features == features[0]).all():
        raise MiningError(
            "all images have the same features",
            where=where,
            found=f"{len(features)} equal rows",
            fix="Use another extractor, or look at the images in the report.",
        )
