"""Relation alignment without labels: do the leading directions tell images apart and ignore how they are changed?

Source: Balestriero and LeCun 2022: self-supervision with the relation "views of one image" is optimal where the
features span the smoothest eigenvectors of that relation's graph. Measured on changed copies of the images (the changes
of stages/embed/augmented.py): 1, the leading directions are constant over the copies of each image; 0, they are as
random directions are. No interval: images are drawn together with all of their copies, and copies bias ranks.

Checked by: tests/stages/probe/label_free/test_invariance.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe.data import ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult


class Relations(Probe):
    """Metrics: `views`."""

    needs_labels: ClassVar[bool] = False
    needs_augmented: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `relations`."""

        directions: Annotated[
            int,
            Field(ge=1, le=10_000),
            meaning("This many leading directions of the features are looked at.", "directions"),
        ] = 16

    def run(self, data: ProbeData) -> ProbeResult:
        """All copies of all images, related by image."""
        from reprise.measures.relations import relation_alignment

        part, features = data.augmented()
        x = np.concatenate(list(features.values()))
        images = np.tile(np.arange(len(part)), len(features))
        note = {
            "tap": "backbone",
            "images": f"{len(part)}, each under {len(features) - 1} changes",
            "relation": "same image",
            "interval": "none: copies bias ranks",
        }
        try:
            value, used = relation_alignment(x, images, self.params.directions)
        except ValueError as reason:
            return ProbeResult({}, {**note, "note": f"not run: {reason}"})
        note["directions"] = f"{used}"
        return ProbeResult({"views": Figure(value, None, None, len(part))}, note)
