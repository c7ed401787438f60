"""Linear probe: how much of the classes can a linear classifier read off frozen features?

Multinomial logistic regression on standardised features with an L2 penalty. The penalty is chosen on val, the
classifier is the one fitted on train (no refit on train + val), and the test split is scored once.
Source: the usual protocol (Zhang et al. 2016; Kornblith et al. 2019 choose the penalty of L-BFGS likewise).
With projector taps the same is done at each: P3 (backbone), P2, P1 of G-SimCLR's evaluation (Chakraborty et al. 2020).
Deviation: full-batch L-BFGS on features of one centred view, no augmentation of the probe's own training.

Checked by: tests/stages/probe/quality/test_quality.py; docs/measurements/results.md.
"""

from __future__ import annotations

from typing import ClassVar

from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import PenaltyParams, fit
from stages.probe.probe import Probe, ProbeResult


class Linear(Probe):
    """Metrics: `top1`, `balanced_accuracy`, `top1_val`, and `top1_<tap>` for each further tap."""

    needs_labels: ClassVar[bool] = True

    class Params(PenaltyParams):
        """As all linear probes."""

    def run(self, data: ProbeData) -> ProbeResult:
        """Fit on train, choose on val, score test; one classifier a tap."""
        import torch

        from reprise.measures.linear import Problem

        protocol = {
            **scoring.counts_note(data),
            "tap": BACKBONE,
            "classifier": "logistic regression, L-BFGS to convergence",
        }
        metrics = {}
        predictions = table = None
        for tap in data.taps:
            suffix = "" if tap == BACKBONE else f"_{tap}"
            train, x = scoring.labelled(data, "train", tap)
            val, x_val = scoring.labelled(data, "val", tap)
            problem = Problem(x, train.labels, torch.float32, data.device)  # as precise as the embeddings themselves
            fitted = fit(problem, x_val, val.labels, data, self.params.penalties, self.params.penalty, suffix)
            protocol |= fitted.notes
            test, x_test = scoring.labelled(data, data.test, tap)
            predicted, probability = fitted.classifier.predict(x_test)
            metrics[f"top1{suffix}"] = scoring.top1(test, predicted, data.confidence)
            if tap == BACKBONE:
                metrics["balanced_accuracy"] = scoring.balanced_accuracy(test, predicted, data.confidence)
                if data.test == "test" and len(val):
                    metrics["top1_val"] = scoring.top1(val, fitted.classifier.predict(x_val)[0], data.confidence)
                predictions = scoring.predictions(test, predicted, probability, data.classes)
                table = scoring.recalls(test, predicted, data.classes, data.confidence)
        return ProbeResult(metrics, protocol, predictions, table)
