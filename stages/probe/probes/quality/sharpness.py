"""Label sharpness: how close do images of different classes lie?

Source: Konz and Mazurowski 2024, "The effect of intrinsic dataset properties on generalization" (K_F): the largest
|y_i - y_j| / |x_i - x_j| over pairs of M = 1000 images. Here x are features, in units of the root mean square distance
of two images, and classes differ by 1 or not at all.
Deviations: all pairs of the images are looked at (the authors' code pairs two shuffled lists, and for several classes
compares equal labels in place of unequal ones). Pairs with equal features, which would be infinite, are counted apart.
No interval: a maximum over pairs has none that a bootstrap could give.

Checked by: tests/stages/probe/quality/test_sharpness.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult


def label_sharpness(x_ND: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    """K_F of Konz and Mazurowski 2024: the largest change of the label over the distance of two points.

    A lower bound of the Lipschitz constant of any function that gives the labels: 1 over the distance of the nearest
    two points of different classes. All pairs are looked at. Distances are in units of the root mean square distance of
    two points, so that the scale of the features does not matter.

    Args:
        labels: (n,) class of each row.

    Returns:
        The sharpness, 0 with one class; and how many pairs of different classes lie at one place. Those are left out:
        no function gives both labels.

    Raises:
        ValueError: fewer than two rows, or all rows (or all unlike pairs) at one place.
    """
    from scipy.spatial.distance import pdist

    x, y = np.asarray(x_ND, dtype=np.float64), np.asarray(labels)
    if len(x) < 2:
        raise ValueError(f"needs two points or more, got {len(x)}")
    distance = pdist(x)
    scale = float(np.sqrt((distance * distance).mean()))
    first, second = np.triu_indices(len(x), 1)  # the order of pdist
    unlike = distance[y[first] != y[second]]
    apart = unlike[unlike > 0]
    if scale == 0 or (len(unlike) and not len(apart)):
        raise ValueError("points of different classes all lie at one place")
    return (scale / float(apart.min()) if len(apart) else 0.0), len(unlike) - len(apart)


class Sharpness(Probe):
    """Metrics: `k_f`, on the test split."""

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `sharpness`. The figure grows with `rows`: compare at equal ones."""

        rows: Annotated[
            int, Field(ge=2, le=5000), meaning("At most this many test images are used, the first by key.", "images")
        ] = 1000

    def run(self, data: ProbeData) -> ProbeResult:
        """The labelled images that are scored, all pairs of them."""
        part, x = scoring.labelled(data, data.test, BACKBONE)
        labels, x = part.labels[: self.params.rows], x[: self.params.rows]
        note = {"scored on": data.test_note, "tap": BACKBONE, "images": f"{len(labels)}"}
        if len(set(labels.tolist())) < 2:
            return ProbeResult({}, {**note, "note": "not run: needs images of two classes"})
        try:
            value, together = label_sharpness(x, labels)
        except ValueError as reason:
            return ProbeResult({}, {**note, "note": f"not run: {reason}"})
        if together:
            note["left out"] = f"{together} pairs of different classes with equal features"
        note |= {"unit": "root mean square distance of two images", "interval": "none: a maximum over pairs"}
        return ProbeResult({"k_f": Figure(value, None, None, len(labels))}, note)
