"""`none`: the empty label set, for methods that use no labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.mine.miner import Mined, Miner


class NoLabels(Miner):
    """Labels nothing."""

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Every image stands for itself."""
        return Mined(np.full(len(features), -1, dtype=np.int64))
