"""k-shot episodes: accuracy when only k images a class are labelled, over many draws of those images.

Each episode draws k training images of every class, takes their mean as the class, and answers the whole test split by
the nearest mean. All classes take part, so the figure goes with their number: compare within a data set.
Source: Snell et al. 2017 (episodes, prototypes); all ways at once as in big transfer evaluations. Nothing is chosen.
Classes with fewer than k training images give all that they have. The interval draws test images (or groups) and
episodes anew, so it says how sure the figure is of this model over both.

Checked by: tests/stages/probe/quality/test_quality_more.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import Seed, StrictModel, meaning
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Probe, ProbeResult

Shots = Annotated[int, Field(ge=1, le=10_000)]


class FewShot(Probe):
    """Metrics: `top1_<k>_shot`, and `sd_<k>_shot`, the standard deviation over episodes (luck of the draw)."""

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `few_shot`."""

        shots: Annotated[
            list[Shots],
            Field(min_length=1, max_length=20),
            meaning("Episodes are drawn with each of these numbers of labelled images per class.", "images"),
        ] = Field(default_factory=lambda: [1, 5])
        episodes: Annotated[
            int, Field(ge=2, le=10_000), meaning("This many episodes are drawn for each number of shots.", "episodes")
        ] = 50
        seed: Annotated[Seed, meaning("The draws depend on this seed.")] = 0

    def run(self, data: ProbeData) -> ProbeResult:
        """Support from train, answers on test."""
        from reprise.measures.prototypes import class_means, nearest

        train, x = scoring.labelled(data, "train", BACKBONE)
        test, queries = scoring.labelled(data, data.test, BACKBONE)
        members = [np.flatnonzero(train.labels == name) for name in np.unique(train.labels)]
        episodes = self.params.episodes
        metrics = {}
        protocol = {
            **scoring.counts_note(data),
            "tap": BACKBONE,
            "episodes": f"{episodes} draws, {len(members)} ways, seed {self.params.seed}",
            "classifier": "nearest class mean, cosine",
            "interval": "bootstrap over test images or groups and over episodes",
        }
        for shots in self.params.shots:
            rng = np.random.default_rng([self.params.seed, shots])
            correct = np.empty((episodes, len(test)), dtype=bool)
            for episode in correct:
                rows = np.concatenate([rng.choice(m, min(shots, len(m)), replace=False) for m in members])
                names, means = class_means(x[rows], train.labels[rows])
                episode[:] = names[nearest(queries, means)[0]] == test.labels
            metrics[f"top1_{shots}_shot"] = scoring.over_draws(test, correct, data.confidence)
            metrics[f"sd_{shots}_shot"] = scoring.plain(float(correct.mean(axis=1).std(ddof=1)), len(test))
            few = sum(len(m) < shots for m in members)
            if few:
                protocol[f"{shots}-shot"] = f"{few} classes have fewer training images and give all that they have"
        return ProbeResult(metrics, protocol)
