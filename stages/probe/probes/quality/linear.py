"""Linear probe: how much of the classes can a linear classifier read off frozen features?

Multinomial logistic regression on standardised features with an L2 penalty. The penalty is chosen on val, the
classifier is the one fitted on train (no refit on train + val), and the test split is scored once.
Source: the usual protocol (Zhang et al. 2016; Kornblith et al. 2019 choose the penalty of L-BFGS likewise).
With projector taps the same is done at each: P1, P2, P3 of G-SimCLR's evaluation (Chakraborty et al. 2020).
Deviation: full-batch L-BFGS on features of one centred view, no augmentation of the probe's own training.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from stages.contracts.params import StrictModel
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Probe, ProbeResult

ENOUGH_VAL = 20  # labelled val images; with fewer the choice would be noise


class Linear(Probe):
    """Metrics: `top1`, `balanced_accuracy`, `top1_val`, and `top1_<tap>` for each further tap."""

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """penalties: L2 on the mean loss, tried on val. penalty: taken as it is when val has under 20 labels."""

        penalties: Annotated[list[Annotated[float, Field(gt=0, le=1e6)]], Field(min_length=1, max_length=50)] = Field(
            default_factory=lambda: [10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5]
        )
        penalty: Annotated[float, Field(gt=0, le=1e6)] = 1e-3

    def run(self, data: ProbeData) -> ProbeResult:
        """Fit on train, choose on val, score test; one classifier a tap."""
        import torch

        from stages.measures.linear import Problem, choose

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
            problem = Problem(x, train.labels, torch.float32)  # as precise as the embeddings themselves
            if len(val) >= ENOUGH_VAL and data.test != "val":
                classifier = choose(problem, x_val, val.labels, self.params.penalties).classifier
                how = f"{classifier.penalty:g}, chosen on {len(val)} val images"
            else:
                classifier = problem.fit(self.params.penalty)
                reason = (
                    "val is scored as test" if data.test == "val" else f"{len(val)} labelled val images are too few"
                )
                how = f"{classifier.penalty:g}, not chosen ({reason})"
            protocol[f"penalty{suffix}"] = how
            if not classifier.converged:
                protocol[f"warning{suffix}"] = f"not converged after {classifier.steps} steps"
            test, x_test = scoring.labelled(data, data.test, tap)
            predicted, probability = classifier.predict(x_test)
            metrics[f"top1{suffix}"] = scoring.top1(test, predicted, data.confidence)
            if tap == BACKBONE:
                metrics["balanced_accuracy"] = scoring.balanced_accuracy(test, predicted, data.confidence)
                if data.test == "test" and len(val):
                    metrics["top1_val"] = scoring.top1(val, classifier.predict(x_val)[0], data.confidence)
                predictions = scoring.predictions(test, predicted, probability, data.classes)
                table = scoring.recalls(test, predicted, data.classes, data.confidence)
        return ProbeResult(metrics, protocol, predictions, table)
