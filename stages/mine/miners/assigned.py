"""`assigned`: the clusters that a run has learned itself, as a label set.

Source: no publication; it takes over the memberships of methods that learn clusters, such as `tcc` and `nmce`.

Idea: a method that learns clusters saves its assigner beside the backbone, embedding writes the memberships of every
image as the tap `assigner`, and this miner makes labels of them. An image belongs to the cluster of its largest
membership, the first of equal ones. Its confidence is that membership and its distance the rest, which is the total
variation between its memberships and those of an image that is wholly in the cluster. Nothing is fitted: the labels are
what the run itself has learned. Other runs, `gsimclr` for one, may train on them in the same graph.

Further figures in quality.json: `offered`, the clusters that the method could use; `empty`, those that no image is in;
`tiny`, those with images, but with fewer than a tenth of n / K; `effective`, exp of the entropy of the mean membership,
which is K where all are used alike and 1 where all images are in one. They count clusters before `min_confidence` takes
labels away.

Legend: n images, K clusters.

Checked by: tests/stages/mine/test_assigned.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reprise.clustering.centres import renumbered
from reprise.config.errors import MiningError
from stages.mine.miner import LabelParams, Mined, Miner

SMALL = 0.1  # of the mean size of a cluster
OFF = 1e-3  # by which the memberships of an image may miss 1: bags of patches and bf16 round


class AssignedParams(LabelParams):
    """Parameters of `assigned`."""


class Assigned(Miner):
    """The largest membership of each image."""

    Params = AssignedParams
    params: AssignedParams
    tap = "assigner"

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Take the cluster of largest membership of (n, K) memberships.

        Raises:
            MiningError: the rows are no memberships.
        """
        refuse_others(features)
        largest = np.clip(features.max(axis=1), 0.0, 1.0).astype(np.float32)
        return Mined(renumbered(features.argmax(axis=1)), 1.0 - largest, largest)

    def figures(self, features: np.ndarray, mined: Mined) -> dict[str, Any]:
        """Say how many of the clusters that the method offers are used, and how evenly."""
        n, K = features.shape
        members = np.bincount(features.argmax(axis=1), minlength=K)
        mean = features.mean(axis=0, dtype=np.float64)
        used = mean[mean > 0] / mean.sum()
        return {
            "offered": K,
            "empty": int((members == 0).sum()),
            "tiny": int(((members > 0) & (members < SMALL * n / K)).sum()),
            "effective": float(np.exp(-(used * np.log(used)).sum())),
        }


def refuse_others(memberships: np.ndarray) -> None:
    """Refuse rows that are negative somewhere or do not sum to 1.

    Raises:
        MiningError: saying how many.
    """
    wrong = (memberships < 0).any(axis=1) | (np.abs(memberships.sum(axis=1, dtype=np.float64) - 1.0) > OFF)
    if wrong.any():
        raise MiningError(
            "the memberships of an image must be at least 0 and sum to 1",
            where="mines.*.on, tap assigner",
            found=f"{int(wrong.sum())} of {len(memberships)} images with others",
            fix="Let the method's head `assigner` be an Assigner of reprise/networks/heads.py, and train the run anew.",
        )
