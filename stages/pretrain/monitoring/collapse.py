"""Collapse: when features or projections no longer tell images apart, and what is done about it.

Self-supervised losses can be satisfied by giving every image the same answer (complete collapse), or answers along a
line or in a plane (dimensional collapse: Hua et al. 2021; Jing et al. 2022). The loss looks better than ever while this
happens. Two figures of the batch in hand tell: the standard deviation of l2-normalised vectors (Chen and He 2021: 1 for
vectors in all directions, 0 for equal ones) and RankMe (Garrido et al. 2023). They are taken of the backbone's features
and, since batch normalisation keeps features apart long after a head has collapsed, of the projections that the loss
sees.

The rule. A check stands at the end of every epoch and before every checkpoint. It compares with the untrained network
in the first batch, since a head without normalisation begins with projections that are nearly equal, and fails where

- features or projections have values that are not finite, which a finite loss may hide,
- a deviation is below 0.001, whatever it was: then the network answers alike from the start,
- the deviation of the features is below 0.05 and below half of what it was,
- the deviation of the projections is below 0.07 and below half of what it was, or
- RankMe of the projections is below 3 while that of the features is below 0.6 of what it was (complete collapse leaves
  neither deviation; this is dimensional collapse). Either alone is no collapse: projections of EMP-SSL have a RankMe of
  2 while it learns well. Labels of two classes may well leave two directions, so this is not asked of a method that
  sees a label set.

Deviations are taken of at least eight images, RankMe of at least 32 images and dimensions. Two checks in a row that
fail, or the last one, are a collapse, from a tenth of the training on, but not within its first 50 steps. A state that
would fail is never saved, not even within these, so the newest checkpoint is always a good one; with `on_collapse:
warn` the training goes on and keeps its checkpoints.

What the rule was measured on stands in docs/explanation/collapse.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from reprise.measures.spectrum import feature_std, rankme

LEAST_STD = {"features": 0.05, "projections": 0.07}
LEAST_OF_ALL = 0.001  # deviation that fails whatever it was; healthy heads of DINO begin at 0.06
DECLINE_OF_STD = 0.5  # share of the untrained network's deviation below which it must lie too
LEAST_RANK = 3.0  # of the projections
DECLINE_OF_RANK = 0.6  # share of the untrained network's RankMe of the features
FEWEST_IMAGES = 8  # below, a batch says nothing about the spread
FEWEST_FOR_RANK = 32  # images and dimensions: RankMe is at most the smaller of the two numbers
IN_A_ROW = 2  # checks that must fail
BEGIN = 0.1  # share of the training before which nothing is judged
FIRST_STEP = 50  # nor before this step: in the first ones some methods draw everything together, and recover


def judged(logs: Mapping[str, Tensor], labelled: bool) -> dict[str, float]:
    """Compute the figures of one batch that the rule looks at: `features.std`, `projections.rank` and the like.

    Args:
        logs: `features` (B, d) and `projections` (B, d) among a method's figures, where it shows them.
        labelled: the method sees a label set.
    """
    found = {}
    for name in LEAST_STD:
        vectors = logs[name].detach().float().cpu() if name in logs else None
        if vectors is None or len(vectors) < FEWEST_IMAGES:
            continue
        found[f"{name}.std"] = feature_std(vectors)  # not a number where a value is not finite
        finite = math.isfinite(found[f"{name}.std"])
        if finite and not labelled and min(vectors.shape) >= FEWEST_FOR_RANK:
            found[f"{name}.rank"] = rankme(vectors)
    return found


def failure(found: Mapping[str, float], start: Mapping[str, float]) -> str | None:
    """Say what fails the check ("the standard deviation of the projections is 0.0123, below 0.07"), or return None.

    Args:
        found: of a batch now; see `judged`.
        start: of the first batch of the training.
    """
    for name, least in LEAST_STD.items():
        spread, before = found.get(f"{name}.std"), start.get(f"{name}.std")
        if spread is None:
            continue
        if not math.isfinite(spread):
            return f"the {name} have values that are not finite"
        if spread < LEAST_OF_ALL:
            return f"the standard deviation of the {name} is {spread:.3g}, below {LEAST_OF_ALL:g}"
        if before is not None and spread < min(least, DECLINE_OF_STD * before):
            return f"the standard deviation of the {name} is {spread:.3g}, below {least:g}"
    ranks = (found.get("projections.rank"), found.get("features.rank"), start.get("features.rank"))
    if None in ranks:
        return None
    rank, left, before = (float(value or 0.0) for value in ranks)
    if rank < LEAST_RANK and left < DECLINE_OF_RANK * before:
        fallen = f"that of the features has fallen from {before:.3g} to {left:.3g}"
        return f"the RankMe of the projections is {rank:.3g}, below {LEAST_RANK:g}, and {fallen}"
    return None
