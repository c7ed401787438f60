"""Choose a penalty on val, in the one way that all probes share, and describe the choice in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from reprise.config.params import StrictModel, meaning

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from reprise.measures.linear import Classifier, Problem
    from stages.probe.data import ProbeData

ENOUGH_VAL = 20  # labelled val images; with fewer the choice would be noise
Penalty = Annotated[float, Field(gt=0, le=1e6)]
Penalties = Annotated[list[Penalty], Field(min_length=1, max_length=50)]


class PenaltyParams(StrictModel):
    """Parameters of every probe with a linear classifier."""

    penalties: Annotated[
        Penalties, meaning("These L2 penalties on the mean loss are tried on val, and the best is taken.")
    ] = Field(default_factory=lambda: [10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5])
    penalty: Annotated[Penalty, meaning("This penalty is taken when fewer than 20 images of val have labels.")] = 1e-3


@dataclass(frozen=True)
class Fitted:
    """A classifier, and notes for the protocol: how its penalty came about, and whether the search converged."""

    classifier: Classifier
    notes: dict[str, str] = field(default_factory=dict)


def may_choose(data: ProbeData, val: int) -> str | None:
    """Return None where `val` labelled images may choose a parameter, else the reason why not."""
    if data.test == "val":
        return "val is scored as test"
    return f"{val} labelled val images are too few" if val < ENOUGH_VAL else None


def fit(
    problem: Problem,
    x_val: np.ndarray,
    y_val: np.ndarray,
    data: ProbeData,
    penalties: Sequence[float],
    penalty: float,
    suffix: str = "",
) -> Fitted:
    """Fit on what `problem` holds; the penalty is chosen on val where that is allowed, else it is `penalty`.

    Args:
        suffix: of the names in the protocol ("_projector1").
    """
    from reprise.measures.linear import choose

    why_not = may_choose(data, len(y_val))
    if why_not is None:
        classifier = choose(problem, x_val, y_val, penalties).classifier
        notes = {f"penalty{suffix}": f"{classifier.penalty:g}, chosen on {len(y_val)} val images"}
    else:
        classifier = problem.fit(penalty)
        notes = {f"penalty{suffix}": f"{classifier.penalty:g}, not chosen ({why_not})"}
    if not classifier.converged:
        notes[f"warning{suffix}"] = f"not converged after {classifier.steps} steps"
    return Fitted(classifier, notes)
