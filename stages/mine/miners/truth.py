"""`truth`: the manifest's labels as a label set, for supervised references and for the ceiling of guided methods.

This and `semi_supervised_mixture` are the only ways by which labels reach pretraining; the report marks every run that
names such a label set, or one that was mined on what such a run learned.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.mine.miner import Mined, Miner


class Truth(Miner):
    """Numbers the classes in alphabetical order; images without a label get none."""

    uses_truth = True

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """One cluster a class."""
        labels = truth or [None] * len(features)
        number = {name: i for i, name in enumerate(sorted({label for label in labels if label is not None}))}
        return Mined(np.array([-1 if label is None else number[label] for label in labels], dtype=np.int64))
