"""The protocol of a miner: features to clusters or pairs. One file in stages/mine/miners each.

Legend: n images, d dimensions, p pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from reprise.config.errors import MiningError
from reprise.config.params import StrictModel, meaning

CHECK_ROWS = 1 << 16  # rows looked at together


class LabelParams(StrictModel):
    """Parameters of every miner of clusters, also of those that only take over what was learned elsewhere."""

    min_confidence: Annotated[
        float,
        Field(ge=0, le=1),
        meaning("Images with a lower confidence get no label and stand for themselves in batches."),
    ] = 0.0


class ClusterParams(LabelParams):
    """Parameters of every miner that finds the clusters itself."""

    resamples: Annotated[
        int,
        Field(ge=0, le=100),
        meaning(
            "Images are mined again this many times, each time without some, and confidence tells how "
            "often they stay together; 0 keeps the miner's own confidence.",
            "times",
        ),
    ] = 0
    confidence: Annotated[
        Literal["own", "resamples", "two_views"] | None,
        Field(exclude_if=lambda value: value is None),
        meaning(
            "Confidence is the miner's own, the share of resamples, or how far two changed copies of an image agree "
            "(`two_views`, which needs embed.two_passes); null takes resamples where there are some, else the own."
        ),
    ] = None

    @field_validator("resamples")
    @classmethod
    def _none_or_several(cls, value: int) -> int:
        if value in (1, 2):
            raise ValueError("should be 0, or at least 3: each image must be mined again at least twice")
        return value

    @model_validator(mode="after")
    def _resampled(self) -> Self:
        if self.confidence == "resamples" and not self.resamples:
            raise ValueError("confidence: resamples needs resamples of at least 3")
        return self

    @property
    def chosen_confidence(self) -> str:
        """Name the confidence that the label set states."""
        return self.confidence or ("resamples" if self.resamples else "own")


@dataclass(frozen=True)
class Pairs:
    """Images that belong together.

    Attributes:
        rows: (p, 2) int64, two different rows of the features, each pair once.
        weight: (p,) float32 in [0, 1].
        kind: (p,) of str, as the miner says.
        hops: (p,) int64 edges between the two.
    """

    rows: np.ndarray
    weight: np.ndarray
    kind: np.ndarray
    hops: np.ndarray


@dataclass(frozen=True)
class Parts:
    """Where patterns lie in images.

    Attributes:
        rows: (p,) int64 rows of the features, ascending.
        patterns: (p,) int64 clusters.
        presence: (p,) float32 in [0, 1].
        boxes: (p, 4) float32 top, left, bottom, right, as shares of the image's side.
    """

    rows: np.ndarray
    patterns: np.ndarray
    presence: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True)
class Mined:
    """A label set.

    Attributes:
        clusters: (n,) int64 from 0, -1 for no label.
        distance: (n,) float32 to the own centre, or None.
        confidence: (n,) float32 in [0, 1], or None.
        pairs: of a miner of pairs, or None.
        parts: of a miner that says where in the images its clusters show, or None.
    """

    clusters: np.ndarray
    distance: np.ndarray | None = None
    confidence: np.ndarray | None = None
    pairs: Pairs | None = None
    parts: Parts | None = None


@dataclass(frozen=True)
class Images:
    """Facts that a miner may know of the images beside their features; never labels.

    Attributes:
        paths: (n,) of str, as in the manifest.
        groups: (n,) of str or None: the video, scene or patient of an image.
    """

    paths: list[str]
    groups: list[str | None]


class Miner:
    """Base of all miners.

    Attributes:
        Params: the typed parameter class.
        uses_truth: whether it gets true labels, those that `visible_labels` chooses; its label set, and the report of
            every run that uses it, say so. Only `semi_supervised_mixture` may.
        makes_pairs: whether its label set holds pairs, so that methods that train on pairs may use it.
        tap: the tap of a run's embedding that it reads (reprise/artifacts/embeddings.py); None reads the features. The
            run's method must declare it in its own `taps`.
        embedded_by: the option of `embed` that writes this tap for every run; None where the method's `taps` decide.
        streams: whether it reads its features in blocks: they come memory-mapped, and need not fit into memory.
    """

    Params: ClassVar[type[StrictModel]] = StrictModel
    uses_truth: ClassVar[bool] = False
    makes_pairs: ClassVar[bool] = False
    streams: ClassVar[bool] = False
    tap: ClassVar[str | None] = None
    embedded_by: ClassVar[str | None] = None

    def __init__(self, params: StrictModel, seed: int, images: Images | None = None) -> None:
        self.params, self.seed, self.images = params, seed, images

    @classmethod
    def refuse_images(cls, params: StrictModel, images: int, where: str = "mining.*") -> None:
        """Refuse fewer images than the parameters ask for; `reprise check` calls it before anything runs.

        Args:
            params: of the miner.
            images: training images.
            where: the miner's block in params.yaml, for the message.

        Raises:
            MiningError: there are fewer images than clusters.
        """
        clusters = getattr(params, "clusters", None)
        if isinstance(clusters, int):
            refuse_fewer(images, clusters, f"{where}.clusters")

    def visible_labels(self, keys: np.ndarray, truth: list[str | None]) -> np.ndarray:
        """Choose the labels that a miner with `uses_truth` gets; the others are hidden before it mines.

        Args:
            keys: (n,) of the images.
            truth: (n,) their labels.

        Returns:
            (n,) bool. The figures that compare with labels are of the other images only.
        """
        return np.zeros(len(keys), dtype=bool)

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Find clusters.

        Args:
            features: (n, d) float32, finite, sorted by key.
            truth: (n,) visible labels, None for an image that has none or whose label is hidden; None for miners that
                do not declare `uses_truth`.
            work: a folder for checkpoints, empty or as an interrupted process left it.
        """
        raise TypeError(f"{type(self).__name__} does not mine")

    def figures(self, features: np.ndarray, mined: Mined) -> dict[str, Any]:
        """Compute figures for quality.json that only this miner has; they may not need labels.

        Args:
            features: (n, d) that `mine` got.
            mined: the label set.
        """
        return {}


def check_features(features: np.ndarray, where: str) -> None:
    """Refuse features that are not finite or all the same.

    Raises:
        MiningError: saying which.
    """
    for start in range(0, len(features), CHECK_ROWS):
        bad = int((~np.isfinite(features[start : start + CHECK_ROWS]).all(axis=1)).sum())
        if bad:
            raise MiningError(
                "features must be finite",
                where=where,
                found=f"{bad} rows with NaN or infinite values",
                fix="Look at the run or the extractor that made them: it diverged.",
            )
    same = all(
        (features[start : start + CHECK_ROWS] == features[0]).all() for start in range(0, len(features), CHECK_ROWS)
    )
    if len(features) > 1 and same:
        raise MiningError(
            "all images have the same features",
            where=where,
            found=f"{len(features)} equal rows",
            fix="Use another extractor, or look at the images in the report.",
        )


def check_clusters(features: np.ndarray, clusters: int, where: str) -> None:
    """Refuse more clusters than images, and what `check_features` refuses.

    Raises:
        MiningError: saying which.
    """
    refuse_fewer(len(features), clusters, where)
    check_features(features, where)


def refuse_fewer(images: int, clusters: int, where: str) -> None:
    """Refuse more clusters than images.

    Raises:
        MiningError: there are fewer images.
    """
    if clusters > images:
        raise MiningError(
            "there are fewer images than clusters",
            where=where,
            found=f"{images} images, {clusters} clusters",
            fix=f"Set it to at most {images}.",
        )
