"""`hdbscan`: dense regions, however many there are; images between them get no label.

Source: Campello, Moulavi, Sander 2013; McInnes and Healy 2017; by scikit-learn. For features of few dimensions (pixels
with 8 to 32 components): density means little in hundreds, and most images end as noise there. Confidence is the
strength of membership in the cluster. Images that are copies of each other make a cluster when there are enough.

Legend: n images, d dimensions.

Checked by: tests/stages/mine/test_miners.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from reprise.clustering.centres import means, renumbered
from reprise.config.errors import MiningError
from reprise.config.params import meaning
from stages.mine.miner import ClusterParams, Mined, Miner, check_features


class HDBSCANParams(ClusterParams):
    """Parameters of `hdbscan`."""

    smallest: Annotated[
        int, Field(ge=2, le=1_000_000), meaning("A cluster has at least this many images.", "images")
    ] = 5
    samples: Annotated[
        Annotated[int, Field(ge=1, le=1000)] | None,
        meaning("Density is estimated from this many neighbours; null takes `smallest`.", "neighbours"),
    ] = None
    selection: Annotated[
        Literal["eom", "leaf"],
        meaning("The most persistent clusters are taken with `eom`, many small ones with `leaf`."),
    ] = "eom"


class DenseRegions(Miner):
    """Hierarchical density clustering."""

    Params = HDBSCANParams
    params: HDBSCANParams

    @classmethod
    def refuse_images(cls, params: HDBSCANParams, images: int, where: str = "mining.*") -> None:  # type: ignore[override]
        """Refuse fewer images than a cluster must have.

        Raises:
            MiningError: there are fewer.
        """
        needed = max(params.smallest, params.samples or 0)
        if needed > images:
            raise MiningError(
                "there are fewer images than a cluster must have",
                where=f"{where}.smallest",
                found=f"{images} images, {needed} needed",
                fix="Lower smallest and samples.",
            )

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Cluster (n, d) features.

        Raises:
            MiningError: constant features, fewer images than a cluster must have.
        """
        from sklearn.cluster import HDBSCAN

        check_features(features, "mining")
        self.refuse_images(self.params, len(features))
        found = HDBSCAN(
            min_cluster_size=self.params.smallest,
            min_samples=self.params.samples,
            cluster_selection_method=self.params.selection,
            copy=True,
        ).fit(np.ascontiguousarray(features, dtype=np.float64))
        clusters = renumbered(np.where(found.labels_ < 0, -1, found.labels_).astype(np.int64))
        if (clusters < 0).all():
            return Mined(clusters)
        centres = means(features, clusters, int(clusters.max()) + 1)
        distance = np.linalg.norm(features - centres[np.maximum(clusters, 0)], axis=1).astype(np.float32)
        return Mined(clusters, distance, found.probabilities_.astype(np.float32))
