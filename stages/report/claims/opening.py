"""What the page begins with: its heading, its first sentences, and whether they can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.report.artifacts import Artifacts
from stages.report.claims.headline import Headline, headline
from stages.report.claims.trust import Point, points_of_trust
from stages.report.claims.without_labels import Compared, compare_without_labels
from stages.report.estimates import confidence_of, intervals_of
from stages.report.readers.comparison import Comparison


@dataclass(frozen=True)
class Opening:
    """The beginning of the page.

    Args:
        title: the heading.
        headline: the first sentences.
        compared: pretrained runs compared with the untrained network without labels.
        scores: verdicts on the runs' scores; None where images have no labels, so that no tested figure is a score.
        trust: questions and answers on whether the result can be trusted.
    """

    title: str
    headline: Headline
    compared: Sequence[Compared]
    scores: Comparison | None
    trust: Sequence[Point]

    @property
    def cares(self) -> list[str]:
        """What speaks against relying on the result, in a few words each."""
        return [point.care for point in self.trust if point.care]


def opening(artifacts: Artifacts) -> Opening:
    """Say what the page begins with."""
    dataset, runs, comparison = artifacts.dataset, artifacts.runs, artifacts.comparison
    compared = compare_without_labels(runs, artifacts.nearest, intervals_of(comparison), confidence_of(comparison))
    # The family of the tests may be a figure without labels, such as `invariance.all`, of which more is not better.
    unlabelled = artifacts.images is not None and not artifacts.images.labels
    scores = None if unlabelled and compared else comparison
    return Opening(
        title=artifacts.params.title or (dataset.name if dataset else "Unnamed data set"),
        headline=headline(scores, runs, compared),
        compared=compared,
        scores=scores,
        trust=points_of_trust(runs, comparison, artifacts.images, artifacts.near_copies, artifacts.checks),
    )
