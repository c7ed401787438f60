"""Relation alignment with labels: do the strongest directions of the features hold the classes?

Source: Balestriero and LeCun 2022: with the relation "same class", as supervised contrastive learning has it, the
optimum spans the class indicators. With as many leading directions as classes less one, the score is the mean squared
cosine between both subspaces, less what random directions reach: 1, the strongest directions are the classes; 0, the
classes are nowhere among them, though a linear probe may still find them in weaker ones. Nothing is fitted or chosen.
No interval: copies, as a bootstrap draws them, bias ranks.

Checked by: tests/stages/probe/label_free/test_invariance.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult


class LabelAlignment(Probe):
    """Metrics: `classes`, on the test split."""

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `label_alignment`."""

        rows: Annotated[
            int,
            Field(ge=3, le=1_000_000),
            meaning("At most this many test images are used, the first by key.", "images"),
        ] = 10_000

    def run(self, data: ProbeData) -> ProbeResult:
        """The labelled images that are scored."""
        from reprise.measures.relations import relation_alignment

        part, x = scoring.labelled(data, data.test, BACKBONE)
        labels, x = part.labels[: self.params.rows], x[: self.params.rows]
        classes = len(set(labels.tolist()))
        note = {"scored on": data.test_note, "tap": BACKBONE, "images": f"{len(labels)}", "relation": "same class"}
        try:
            value, used = relation_alignment(x, labels, classes - 1)
        except ValueError as reason:
            return ProbeResult({}, {**note, "note": f"not run: {reason}"})
        note |= {"directions": f"{used}", "interval": "none: copies bias ranks"}
        return ProbeResult({"classes": Figure(value, None, None, len(labels))}, note)
