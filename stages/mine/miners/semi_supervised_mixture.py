"""`semi_supervised_mixture`: the Gaussian mixture of GPC where some labels are known. **It reads labels.**

Source: GPC, "Learning Semi-supervised Gaussian Mixture Models for Generalized Category Discovery", ICCV 2023. Authors'
code: DTennant/GPC. The setting, category discovery: of some classes a share of the training images is labelled; the
other images, of these classes and of new ones, are to be clustered, and nobody says how many classes there are.

Idea: each known class is one cluster to begin with, its labelled images stay in it, and k-means++ puts the other first
centres where these are far. Then clusters split and merge until their number fits (stages/mine/mixture.py);
clusters with labelled images of two classes are never merged, labelled images of one class never parted.

Which labels: an image of a known class shows its label with probability `labelled`, by its content and the seed. All
others, and those of val and test, are hidden before mining begins; the figures of quality.json are about them alone. A
known class none of whose images shows its label is like an unknown one.

Stated method, not the code (see `gaussian_mixture`). Deviations: only the mixture; the paper trains a network by its
prototypes between rounds, here `gsimclr` or another method takes the label set. Clusters with labelled images may split
too: the code tries unlabelled ones only, and so needs a start with at least as many clusters as there are classes.

Confidence is the responsibility of the own cluster, 1 for labelled images. Distances are Euclidean, to its mean.

Legend: n images, d components, m images without a label.

Checked by: tests/stages/mine/test_semi_supervised.py; docs/explanation/mining.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator
from threadpoolctl import threadpool_limits

from reprise.clustering.centres import means, nearest, nearest_centres, renumbered, sums
from reprise.config.errors import MiningError
from reprise.config.params import meaning
from reprise.runtime.seeds import mix, numpy_rng
from stages.mine.miner import Mined, Miner, check_clusters
from stages.mine.mixture import Mixture, MixtureParams, prepared

MOVES = 20  # of k-means at the start
DRAWS = 1 << 63  # of `mix`


class SemiSupervisedParams(MixtureParams):
    """Parameters of `semi_supervised_mixture`; `clusters` must be at least the number of known classes."""

    labelled: Annotated[
        float, Field(gt=0, le=1), meaning("This share of the images of known classes shows its label.")
    ] = 0.5
    known: Annotated[
        Annotated[list[str], Field(min_length=1)] | None, meaning("These classes are known; null takes all of them.")
    ] = None

    @field_validator("known")
    @classmethod
    def _once(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("names a class twice")
        return value


class SemiSupervisedMixture(Miner):
    """Split and merge around labelled images; the number of clusters is found."""

    Params = SemiSupervisedParams
    params: SemiSupervisedParams
    uses_truth = True

    def visible_labels(self, keys: np.ndarray, truth: list[str | None]) -> np.ndarray:
        """Draw images of known classes by their key: (n,) bool.

        Raises:
            MiningError: no labels, a known class that no image has, a share that leaves none.
        """
        classes = sorted({label for label in truth if label is not None})
        if not classes:
            raise _without_labels()
        known = classes if self.params.known is None else self.params.known
        if unknown := sorted(set(known) - set(classes)):
            more = f" and {len(classes) - 10} more" if len(classes) > 10 else ""
            raise MiningError(
                "no training image is of this class",
                where="mining.*.known",
                found=", ".join(unknown),
                fix=f"Name some of: {', '.join(classes[:10])}{more}.",
            )
        of_known = [label in known for label in truth]
        drawn = [
            use and mix(self.seed, "labelled", key) < self.params.labelled * DRAWS
            for key, use in zip(keys.tolist(), of_known, strict=True)
        ]
        if not any(drawn):
            raise MiningError(
                "the share is so small that no image shows its label",
                where="mining.*.labelled",
                found=f"{self.params.labelled} of {sum(of_known)} images of known classes",
                fix="Set a larger share, or use the miner gaussian_mixture, which needs no label.",
            )
        return np.array(drawn)

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Cluster (n, d) features around the images whose label is not None.

        Raises:
            MiningError: more clusters to start with than images, constant features, no label.
        """
        check_clusters(features, self.params.clusters, "mining.*.clusters")
        names = truth or [None] * len(features)
        number = {name: i for i, name in enumerate(sorted({name for name in names if name is not None}))}
        if not number:
            raise _without_labels()
        labels = np.array([-1 if name is None else number[name] for name in names], dtype=np.int64)
        with threadpool_limits(1):  # small matrices, and sums that repeat
            x = prepared(features, self.params.components, self.params.unit_length)
            clusters = start(x.astype(np.float32), labels, self.params.clusters, numpy_rng(self.seed, "mixture"))
            return Mixture(x, labels, self.params).fitted(clusters, self.seed, "semi-supervised mixture")


def start(x: np.ndarray, labels: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Cluster by a k-means that keeps labelled images where they are: (n,) int64 clusters from 0.

    Args:
        x: (n, d) float32.
        labels: (n,) int64, classes from 0 without gaps, -1 for images without a label.
        clusters: at most so many, but at least one a class.
        rng: draws the first centres of clusters without a class.
    """
    fixed, classes = labels >= 0, int(labels.max()) + 1
    centres = means(x[fixed], labels[fixed], classes)
    centres = np.concatenate([centres, far_from(centres, x[~fixed], clusters - classes, rng)])
    before = None
    for _ in range(MOVES):
        nearest_to = nearest_centres(x, centres, "cpu")
        nearest_to[fixed] = labels[fixed]
        if before is not None and (nearest_to == before).all():
            break
        before = nearest_to
        total, counts = sums(x, nearest_to, len(centres))
        moved = total / np.maximum(counts, 1)[:, None]
        centres = np.where(counts[:, None] > 0, moved, centres).astype(np.float32)
    return renumbered(nearest_to)


def far_from(centres: np.ndarray, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Continue k-means++ after `centres`: draw `count` of the (m, d) `rows`, fewer where no more rows differ."""
    chosen: list[int] = []
    closest = nearest(rows, centres, "cpu").squared.astype(np.float64)
    while len(chosen) < count and closest.any():
        cumulated = np.cumsum(closest)
        chosen.append(min(int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right")), len(rows) - 1))
        away = rows.astype(np.float64) - rows[chosen[-1]]
        closest = np.minimum(closest, np.einsum("md,md->m", away, away))
    return rows[np.array(chosen, dtype=np.int64)]


def _without_labels() -> MiningError:
    return MiningError(
        "this miner learns from some labels",
        where="mines.*.miner",
        found="no training image shows one",
        fix="Use gaussian_mixture, which needs none, or a source with labels.",
    )
