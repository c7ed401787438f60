"""kNN accuracy on shifted images: do they still lie among the training images of their own kind?

The bank holds the labelled training images as they are, and nothing is chosen.
Source: Wu et al. 2018 for the vote; Hendrycks and Dietterich 2019 for corruptions in five severities.
Deviation: accuracy itself, not their mean corruption error, which needs the errors of AlexNet.

Checked by: tests/stages/probe/test_shifted.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Probe, ProbeResult

if TYPE_CHECKING:
    import numpy as np


class ShiftedKnn(Probe):
    """Metrics: `clean`, `top1_<set>` and `drop_<set>` of each set of shifted images, `severity_<n>`."""

    needs_labels: ClassVar[bool] = True
    needs_shifted: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `shifted_knn`."""

        k: Annotated[int, Field(ge=1, le=100_000), meaning("This many nearest training images vote.", "neighbours")] = (
            20
        )
        temperature: Annotated[float, Field(gt=0, le=100), meaning("A vote weighs exp(cosine / temperature).")] = 0.07

    def run(self, data: ProbeData) -> ProbeResult:
        """Bank train, queries the scored split and all shifted images."""
        from reprise.measures.nearest.neighbours import classify
        from stages.probe import scoring, under_shift

        bank, features = scoring.labelled(data, "train", BACKBONE)
        k, temperature = self.params.k, self.params.temperature

        def predict(queries: np.ndarray) -> np.ndarray:
            return classify(queries, features, bank.labels, len(data.classes), k, temperature, data.device)[0]

        note = {"tap": BACKBONE, "k": f"{min(k, len(bank))}", "temperature": f"{temperature:g}", "similarity": "cosine"}
        return under_shift.result(data, predict, note)
