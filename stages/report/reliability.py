"""How far the confidence of a probe can be believed: accuracy by confidence (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reprise.measures.statistics import CONFIDENCE, wilson
from stages.report.readers.runs import Predictions

BINS = 10
FEWEST_IMAGES = 10  # of a bin that is drawn


@dataclass(frozen=True)
class Bin:
    """The answers of similar confidence: number, mean confidence, accuracy, and the interval of the accuracy."""

    images: int
    confidence: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Reliability:
    """The bins of a probe from low to high confidence; `error` is their mean gap, weighted by images (ECE)."""

    images: int
    bins: tuple[Bin, ...]
    error: float
    confidence: float
    accuracy: float


def reliability(predictions: Predictions, confidence: float = CONFIDENCE) -> Reliability | None:
    """Compare confidence with accuracy in ten bins of equal width.

    Args:
        predictions: of a probe.
        confidence: level of the intervals.

    Returns:
        The comparison; None where scores are missing or are no probabilities.
    """
    if not predictions.scores or any(score is None or not 0 <= score <= 1 for score in predictions.scores):
        return None
    scores = np.asarray(predictions.scores, dtype=np.float64)
    right = np.asarray(predictions.labels, dtype=object) == np.asarray(predictions.predicted, dtype=object)
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    bins = []
    for i in range(BINS):
        chosen = place == i
        if n := int(chosen.sum()):
            low, high = wilson(int(right[chosen].sum()), n, confidence)
            bins.append(Bin(n, float(scores[chosen].mean()), float(right[chosen].mean()), low or 0.0, high or 0.0))
    error = sum(b.images * abs(b.confidence - b.accuracy) for b in bins) / len(scores)
    return Reliability(len(scores), tuple(bins), float(error), float(scores.mean()), float(right.mean()))
