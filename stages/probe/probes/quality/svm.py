"""Off the shelf: a linear SVM on features of length one, the oldest way to use a ready-made backbone.

Each class against the rest, squared hinge loss, the most confident class answers. The penalty is chosen on val.
Source: Razavian et al. 2014 ("CNN features off-the-shelf"): L2-normalised features, linear SVM.
Deviation: one centred view (no jittered copies); the signed power of the features, which the paper uses with augmented
training views, is a parameter and off by default. Features are centred and not divided by their deviation: that would
undo the normalisation.

Checked by: tests/stages/probe/quality/test_quality_more.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import meaning
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import Penalties, PenaltyParams, fit
from stages.probe.probe import Probe, ProbeResult


class Svm(Probe):
    """Metrics: `top1`, `balanced_accuracy`, `top1_val`. The score of a prediction is its margin."""

    needs_labels: ClassVar[bool] = True

    class Params(PenaltyParams):
        """Parameters of `svm`."""

        penalties: Annotated[
            Penalties, meaning("These L2 penalties on the mean loss are tried on val, and the best is taken.")
        ] = Field(default_factory=lambda: [1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6])
        power: Annotated[
            float,
            Field(gt=0, le=1),
            meaning("Features become sign(x) |x|^power before they are brought to length one; 1 changes nothing."),
        ] = 1.0

    def run(self, data: ProbeData) -> ProbeResult:
        """Fit on train, choose on val, score test."""
        import torch

        from reprise.measures.linear import Problem

        train, x = scoring.labelled(data, "train", BACKBONE)
        val, x_val = scoring.labelled(data, "val", BACKBONE)
        test, x_test = scoring.labelled(data, data.test, BACKBONE)
        problem = Problem(self._prepared(x), train.labels, torch.float32, data.device, "squared_hinge", scale=False)
        fitted = fit(problem, self._prepared(x_val), val.labels, data, self.params.penalties, self.params.penalty)
        classifier = fitted.classifier
        margins = classifier.logits(self._prepared(x_test))
        predicted = classifier.classes[margins.argmax(axis=1)]
        metrics = {
            "top1": scoring.top1(test, predicted, data.confidence),
            "balanced_accuracy": scoring.balanced_accuracy(test, predicted, data.confidence),
        }
        if data.test == "test" and len(val):
            answers = classifier.predict(self._prepared(x_val))[0]
            metrics["top1_val"] = scoring.top1(val, answers, data.confidence)
        protocol = {
            **scoring.counts_note(data),
            "tap": BACKBONE,
            "classifier": "linear SVM, squared hinge, one against the rest",
            "features": f"signed power {self.params.power:g}, length one, centred",
            **fitted.notes,
        }
        return ProbeResult(metrics, protocol, scoring.predictions(test, predicted, margins.max(axis=1), data.classes))

    def _prepared(self, x: np.ndarray) -> np.ndarray:
        from reprise.measures.unit_vectors import unit

        return unit(np.sign(x) * np.abs(x) ** self.params.power).astype(np.float32)
