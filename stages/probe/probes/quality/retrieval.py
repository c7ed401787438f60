"""Image retrieval: are images of the same class ranked first?

Every test image is a query, every labelled training image is in the gallery, and an image of the same class is a right
answer. mAP looks at the whole ranking, recall@k at whether one of the first k is right.
Source: Razavian et al. 2014 (retrieval off the shelf), Song et al. 2016 (recall@k). Nothing is fitted or chosen.
Exact copies cannot be in both: ingest keeps one of each. A query whose class the gallery lacks has no right answer: it
is left out, and the protocol says so.

Checked by: tests/stages/probe/quality/test_retrieval.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe import scoring
from stages.probe.data import BACKBONE, Part, ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult

First = Annotated[int, Field(ge=1, le=10_000)]


def hit(relevant: np.ndarray, k: int) -> np.ndarray:
    """(q,) whether one of the first k is relevant: recall@k as metric learning counts it (Song et al. 2016)."""
    return np.asarray(relevant[:, :k].any(axis=1))


class Retrieval(Probe):
    """Metrics: `map`, and `recall_at_<k>`, the share of queries with a right answer among the first k."""

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `retrieval`."""

        queries: Annotated[
            int,
            Field(ge=1, le=1_000_000),
            meaning("At most this many test images are queries, chosen by the hash of their keys.", "images"),
        ] = 2000
        k: Annotated[
            list[First],
            Field(min_length=1, max_length=20),
            meaning("Recall looks at these numbers of first answers.", "answers"),
        ] = Field(default_factory=lambda: [1, 10])

    def run(self, data: ProbeData) -> ProbeResult:
        """Rank train for each query of test."""
        from reprise.measures.nearest.retrieval import average_precision, rankings
        from reprise.measures.statistics import bootstrap_mean

        gallery, rows = scoring.labelled(data, "train", BACKBONE)
        test = data.part(data.test)
        chosen = data.choose(data.test, self.params.queries)
        chosen = chosen[np.isin(test.labels[chosen], gallery.labels)]
        if len(chosen) == 0:
            return ProbeResult({}, {"note": "not run: no query has an image of its class in train"})
        groups = None if test.groups is None else test.groups[chosen]
        asked = Part(test.keys[chosen], test.labels[chosen], groups)
        precision = np.empty(len(asked))
        hits = {k: np.empty(len(asked), dtype=bool) for k in self.params.k}
        for block, order in rankings(data.features(data.test, BACKBONE)[chosen], rows, device=data.device):
            relevant = gallery.labels[order] == asked.labels[block, None]
            precision[block] = average_precision(relevant)
            for k, found in hits.items():
                found[block] = hit(relevant, k)
        low, high = bootstrap_mean(precision, groups, data.confidence)
        metrics = {"map": Figure(float(precision.mean()), low, high, len(asked))}
        for k, found in hits.items():
            metrics[f"recall_at_{k}"] = scoring.top1(asked, np.where(found, asked.labels, -1), data.confidence)
        protocol = {
            **scoring.counts_note(data),
            "tap": BACKBONE,
            "similarity": "cosine, ties by key",
            "queries": f"{len(asked)} of {data.test_note}",
            "gallery": f"{len(gallery)} of train",
        }
        if "classes absent from train" in protocol:
            protocol["classes absent from train"] = "their test images are no queries: nothing in the gallery is right"
        return ProbeResult(metrics, protocol)
