"""How many mined pairs join images of one class: of each number of hops, and of each kind of pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.mine.miner import Pairs


def pair_figures(pairs: Pairs, truth: Sequence[str | None], digits: int) -> dict[str, Any]:
    """Compare pairs with the true labels, for the report only.

    A closed pair is right where every edge on its way is, so wrong edges multiply with the hops: one figure for all
    pairs would hide it.

    Args:
        pairs: of the label set.
        truth: (n,) labels of the manifest.
        digits: of the shares.

    Returns:
        `precision_by_hops` and `precision_by_kind`: of the pairs whose images both have a label, the share of one
        class, in ascending order of the names; None where no image of a pair has a label. `pairs_judged` counts them.
    """
    labels = np.array([label if label is not None else "" for label in truth], dtype=object)[pairs.rows]
    judged = (labels != "").all(axis=1)
    same = labels[:, 0] == labels[:, 1]

    def precision(group: np.ndarray) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for value in sorted(set(group.tolist())):
            chosen = (group == value) & judged
            found[str(value)] = round(float(same[chosen].mean()), digits) if chosen.any() else None
        return found

    return {
        "pairs_judged": int(judged.sum()),
        "precision_by_hops": precision(pairs.hops),
        "precision_by_kind": precision(pairs.kind),
    }
