"""Label sharpness: how close do images of different classes lie?

Source: Konz and Mazurowski 2024, "The effect of intrinsic dataset properties on generalization" (K_F): the largest
|y_i - y_j| / |x_i - x_j| over pairs of M = 1000 images. Here x are features, in units of the root mean square distance
of two images, and classes differ by 1 or not at all.
Deviations: all pairs of the images are looked at (the authors' code pairs two shuffled lists, and for several classes
compares equal labels in place of unequal ones). Pairs with equal features, which would be infinite, are counted apart.
No interval: a maximum over pairs has none that a bootstrap could give.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from reprise.config.params import StrictModel
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult


class Sharpness(Probe):
    """Metrics: `k_f`, on the test split."""

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """rows: test images at most, the first by key. The figure grows with them: compare at equal rows."""

        rows: Annotated[int, Field(ge=2, le=5000)] = 1000

    def run(self, data: ProbeData) -> ProbeResult:
        """The labelled images that are scored, all pairs of them."""
        from reprise.measures.intrinsic import label_sharpness

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
