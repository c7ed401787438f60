"""Few labels: the linear probe when only 1 % or 10 % of the training images are labelled.

The same share of every class is drawn (at least one image), several times; a classifier is fitted to each draw.
Source: the semi-supervised protocol of SimCLR (Chen et al. 2020), here with the backbone frozen; `finetune` trains it.
The penalty is chosen on val for every draw, so val's labels are used beside the few: the protocol states how many.
The interval draws test images (or groups) and the draws anew.

Checked by: tests/stages/probe/quality/test_quality_more.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import Seed, meaning
from reprise.reading.share import drawn_of_each
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import PenaltyParams, fit
from stages.probe.probe import Probe, ProbeResult

Percent = Annotated[float, Field(gt=0, le=100)]


class LabelFraction(Probe):
    """Metrics: `top1_<p>_percent`, mean over draws (a point in p becomes an underscore)."""

    needs_labels: ClassVar[bool] = True

    class Params(PenaltyParams):
        """Parameters of `label_fraction`."""

        percents: Annotated[
            list[Percent],
            Field(min_length=1, max_length=20),
            meaning("These shares of each class's training images are labelled.", "percent"),
        ] = Field(default_factory=lambda: [1.0, 10.0])
        draws: Annotated[
            int, Field(ge=2, le=100), meaning("Labelled images are drawn this many times for each share.", "draws")
        ] = 3
        seed: Annotated[Seed, meaning("The draws depend on this seed.")] = 0

    def run(self, data: ProbeData) -> ProbeResult:
        """Fit on each draw from train, choose on val, score test."""
        import torch

        from reprise.measures.linear import Problem

        train, x = scoring.labelled(data, "train", BACKBONE)
        val, x_val = scoring.labelled(data, "val", BACKBONE)
        test, x_test = scoring.labelled(data, data.test, BACKBONE)
        members = [np.flatnonzero(train.labels == name) for name in np.unique(train.labels)]
        metrics = {}
        protocol = {
            **scoring.counts_note(data),
            "tap": BACKBONE,
            "classifier": "logistic regression, L-BFGS to convergence",
            "draws": f"{self.params.draws}, the same share of every class, seed {self.params.seed}",
            "interval": "bootstrap over test images or groups and over draws",
        }
        for percent in self.params.percents:
            word = f"{percent:g}".replace(".", "_").replace("-", "_")
            rng = np.random.default_rng([self.params.seed, round(percent * 1e6)])
            correct = np.empty((self.params.draws, len(test)), dtype=bool)
            for draw in range(self.params.draws):
                rows = drawn_of_each(members, percent, rng)
                problem = Problem(x[rows], train.labels[rows], torch.float32, data.device)
                suffix = f" at {percent:g} %, draw {draw}"
                fitted = fit(problem, x_val, val.labels, data, self.params.penalties, self.params.penalty, suffix)
                protocol |= fitted.notes
                correct[draw] = fitted.classifier.predict(x_test)[0] == test.labels
            protocol[f"labels at {percent:g} %"] = f"{len(rows)} training images"
            metrics[f"top1_{word}_percent"] = scoring.over_draws(test, correct, data.confidence)
        return ProbeResult(metrics, protocol)
