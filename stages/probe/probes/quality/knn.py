"""Weighted k-nearest-neighbour accuracy: does an image lie among its own kind?

No training and no choice, so it is the figure least open to tuning, and the default family of the verdicts.
Source: Wu et al. 2018 (instance discrimination); k 20 and temperature 0.07 as in DINO (Caron et al. 2021).
Deviation: none. Bank: labelled train images. With k above their number all of them vote. Ties: lowest row, then
lowest class name.

Checked by: tests/stages/probe/quality/test_quality.py; docs/measurements/results.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Probe, ProbeResult

if TYPE_CHECKING:
    import numpy as np


class Knn(Probe):
    """Metrics: `top1`, `balanced_accuracy` on the test split, `top1_val` on val (for choosing between models)."""

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `knn`."""

        k: Annotated[int, Field(ge=1, le=100_000), meaning("This many nearest training images vote.", "neighbours")] = (
            20
        )
        temperature: Annotated[float, Field(gt=0, le=100), meaning("A vote weighs exp(cosine / temperature).")] = 0.07

    def run(self, data: ProbeData) -> ProbeResult:
        """Bank train, queries val and test."""
        bank, bank_features = scoring.labelled(data, "train", BACKBONE)
        test, features = scoring.labelled(data, data.test, BACKBONE)
        predicted, votes = self._classify(features, bank_features, bank.labels, data)
        metrics = {
            "top1": scoring.top1(test, predicted, data.confidence),
            "balanced_accuracy": scoring.balanced_accuracy(test, predicted, data.confidence),
        }
        val, val_features = scoring.labelled(data, "val", BACKBONE)
        if data.test == "test" and len(val):
            answers, _ = self._classify(val_features, bank_features, bank.labels, data)
            metrics["top1_val"] = scoring.top1(val, answers, data.confidence)
        used = min(self.params.k, len(bank))
        protocol = {
            **scoring.counts_note(data),
            "tap": BACKBONE,
            "k": f"{used}" if used == self.params.k else f"{used} (all of train; {self.params.k} asked for)",
            "temperature": f"{self.params.temperature:g}",
            "similarity": "cosine",
        }
        return ProbeResult(metrics, protocol, scoring.predictions(test, predicted, votes, data.classes))

    def _classify(
        self, queries: np.ndarray, bank: np.ndarray, labels: np.ndarray, data: ProbeData
    ) -> tuple[np.ndarray, np.ndarray]:
        from reprise.measures.nearest.neighbours import classify

        return classify(queries, bank, labels, len(data.classes), self.params.k, self.params.temperature, data.device)
