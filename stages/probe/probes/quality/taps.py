"""Before or after the projector: the linear probe at each tap, and how much is lost on the way.

The projector is trained to forget what the augmentations change; what a classifier needs may be among it. The figure of
interest is the gain of the backbone over each later tap, on the same test images.
Source: P3 (backbone), P2, P1 of G-SimCLR's evaluation (Chakraborty et al. 2020); why it happens: Xue et al. 2024
(benefits of the projection head). Each tap's features are standardised by its own training features, and each tap's
penalty is chosen on val, so no tap is at a disadvantage. `linear` shows the same accuracies without the gains.

Checked by: tests/stages/probe/quality/test_quality_more.py.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import PenaltyParams, fit
from stages.probe.probe import Figure, Probe, ProbeResult


class Taps(Probe):
    """Metrics: `top1_<tap>` for each tap, `gain_over_<tap>`: top1 of the backbone minus that of the tap, paired."""

    needs_labels: ClassVar[bool] = True

    class Params(PenaltyParams):
        """As all linear probes."""

    def run(self, data: ProbeData) -> ProbeResult:
        """One classifier a tap; differences image by image."""
        import torch

        from reprise.measures.linear import Problem
        from reprise.measures.statistics import bootstrap_mean

        if len(data.taps) == 1:
            return ProbeResult({}, {"note": f"not run: {BACKBONE} is the only tap, this method has no projector"})
        metrics, correct = {}, {}
        protocol = {**scoring.counts_note(data), "taps": ", ".join(data.taps)}
        for tap in data.taps:
            train, x = scoring.labelled(data, "train", tap)
            val, x_val = scoring.labelled(data, "val", tap)
            test, x_test = scoring.labelled(data, data.test, tap)
            problem = Problem(x, train.labels, torch.float32, data.device)
            fitted = fit(problem, x_val, val.labels, data, self.params.penalties, self.params.penalty, f"_{tap}")
            protocol |= fitted.notes
            predicted = fitted.classifier.predict(x_test)[0]
            metrics[f"top1_{tap}"] = scoring.top1(test, predicted, data.confidence)
            correct[tap] = (predicted == test.labels).astype(np.float64)
            if tap != BACKBONE:
                gain = correct[BACKBONE] - correct[tap]
                low, high = bootstrap_mean(gain, test.groups, data.confidence)
                metrics[f"gain_over_{tap}"] = Figure(float(gain.mean()), low, high, len(test))
        return ProbeResult(metrics, protocol)
