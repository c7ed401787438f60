"""Linear probe on shifted images: does a classifier that was fitted on clean images still answer?

Fitted on train, with a penalty that is chosen on val, both as they are: nothing is learned from a shifted image.
Source: Hendrycks and Dietterich 2019 for corruptions in five severities; the classifier is that of `linear`.
Deviation: accuracy itself, not their mean corruption error, which needs the errors of AlexNet.

Checked by: tests/stages/probe/test_shifted.py.
"""

from __future__ import annotations

from typing import ClassVar

from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import PenaltyParams, fit
from stages.probe.probe import Probe, ProbeResult


class ShiftedLinear(Probe):
    """Metrics: `clean`, `top1_<set>` and `drop_<set>` of each set of shifted images, `severity_<n>`."""

    needs_labels: ClassVar[bool] = True
    needs_shifted: ClassVar[bool] = True

    class Params(PenaltyParams):
        """As all linear probes."""

    def run(self, data: ProbeData) -> ProbeResult:
        """Fit on train, choose on val, score the scored split and all shifted images."""
        import torch

        from reprise.measures.linear import Problem
        from stages.probe import scoring, under_shift

        train, x = scoring.labelled(data, "train", BACKBONE)
        val, x_val = scoring.labelled(data, "val", BACKBONE)
        problem = Problem(x, train.labels, torch.float32, data.device)
        fitted = fit(problem, x_val, val.labels, data, self.params.penalties, self.params.penalty)
        note = {"tap": BACKBONE, "classifier": "logistic regression, L-BFGS to convergence", **fitted.notes}
        return under_shift.result(data, lambda queries: fitted.classifier.predict(queries)[0], note)
