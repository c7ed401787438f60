"""Nearest class mean: accuracy when a class is nothing but the mean of its training features.

Nothing is fitted and nothing chosen, so it says how round and how far apart the classes are. Well below kNN: classes
have several parts. Well above kNN: neighbourhoods are noisy, centres are not.
Source: Snell et al. 2017 (prototypical networks) and Mensink et al. 2013 (nearest class mean), without training.
Cosine similarity of features of length one; ties go to the first class name.

Checked by: tests/stages/probe/quality/test_quality_more.py.
"""

from __future__ import annotations

from typing import ClassVar

from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Probe, ProbeResult


class Prototype(Probe):
    """Metrics: `top1`, `balanced_accuracy` on the test split, `top1_val` on val."""

    needs_labels: ClassVar[bool] = True

    def run(self, data: ProbeData) -> ProbeResult:
        """Means from train, answers on test."""
        from reprise.measures.prototypes import class_means, nearest

        train, x = scoring.labelled(data, "train", BACKBONE)
        test, queries = scoring.labelled(data, data.test, BACKBONE)
        names, means = class_means(x, train.labels)
        best, similarity = nearest(queries, means)
        metrics = {
            "top1": scoring.top1(test, names[best], data.confidence),
            "balanced_accuracy": scoring.balanced_accuracy(test, names[best], data.confidence),
        }
        val, val_queries = scoring.labelled(data, "val", BACKBONE)
        if data.test == "test" and len(val):
            metrics["top1_val"] = scoring.top1(val, names[nearest(val_queries, means)[0]], data.confidence)
        protocol = {**scoring.counts_note(data), "tap": BACKBONE, "similarity": "cosine to the class mean"}
        return ProbeResult(metrics, protocol, scoring.predictions(test, names[best], similarity, data.classes))
