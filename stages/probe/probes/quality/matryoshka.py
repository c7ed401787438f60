"""Matryoshka: how much do the first few dimensions hold, and can they shorten a search?

kNN accuracy from prefixes of the features, beside equally many principal components (fitted on train): a prefix that
comes near them means that the features are nested. Then funnel retrieval: a shortlist by the first 8 dimensions, ranked
again by 16, 32 ... and all of them, against the full search.
Source: Kusupati et al. 2022 (Matryoshka representation learning). Prefixes are brought to length one anew. Features of
a method without nested training have no order: their prefixes are as good as any other choice of dimensions.

Checked by: tests/stages/probe/quality/test_retrieval.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult

if TYPE_CHECKING:
    from collections.abc import Sequence

Width = Annotated[int, Field(ge=1, le=65_536)]
CELLS = 1 << 22  # similarities held at once


def funnel(
    queries: np.ndarray, gallery: np.ndarray, steps: Sequence[tuple[int, int]], cells: int = CELLS
) -> tuple[np.ndarray, int]:
    """Search by prefixes: rank all rows by the first few dimensions, the best of them again by more, and so on.

    Each prefix is brought to length one anew.

    Args:
        queries: (q, d).
        gallery: (n, d).
        steps: (dimensions, rows kept), dimensions increasing, rows kept decreasing.
        cells: similarities that are held at once.

    Returns:
        (q, rows kept by the last step) rows of the gallery, best first; multiplications per query.
    """
    import torch

    from reprise.measures.nearest.neighbours import unit_rows

    kept, cost = np.empty((len(queries), 0), dtype=np.int64), 0
    for number, (dimensions, asked_for) in enumerate(steps):
        asked, rows = unit_rows(queries[:, :dimensions]), unit_rows(gallery[:, :dimensions])
        candidates = len(gallery) if number == 0 else kept.shape[1]
        keep = min(asked_for, candidates)
        cost += candidates * dimensions
        found = np.empty((len(queries), keep), dtype=np.int64)
        step = max(1, cells // (candidates * (1 if number == 0 else dimensions)))
        for start in range(0, len(queries), step):
            block = asked[start : start + step]
            if number == 0:
                best = (block @ rows.T).float().sort(dim=1, descending=True, stable=True).indices
                found[start : start + step] = best[:, :keep].numpy()
                continue
            listed = torch.from_numpy(np.sort(kept[start : start + step], axis=1))  # ties go to the lowest row
            similarity = torch.bmm(rows[listed], block[:, :, None])[:, :, 0].float()
            best = similarity.sort(dim=1, descending=True, stable=True).indices[:, :keep]
            found[start : start + step] = listed.gather(1, best).numpy()
        kept = found
    return kept, cost


class Matryoshka(Probe):
    """Metrics: `top1_<m>` and `top1_pca_<m>` for m dimensions; `map_at_10` and `map_at_10_funnel`;
    `funnel_share` of the full search's mAP@10, `funnel_cost`: multiplications, as a share of the full search's.
    """

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `matryoshka`."""

        widths: Annotated[
            list[Width],
            Field(min_length=1, max_length=20),
            meaning("Features are cut to these first dimensions, where they have more.", "dimensions"),
        ] = Field(default_factory=lambda: [8, 16, 32, 64, 128, 256, 512, 1024])
        k: Annotated[int, Field(ge=1, le=10_000), meaning("This many nearest training images vote.", "neighbours")] = 20
        temperature: Annotated[float, Field(gt=0, le=100), meaning("A vote weighs exp(cosine / temperature).")] = 0.07
        shortlist: Annotated[
            int,
            Field(ge=10, le=100_000),
            meaning("The narrowest prefix keeps this many candidates, and every later step keeps half.", "images"),
        ] = 200
        queries: Annotated[
            int,
            Field(ge=1, le=1_000_000),
            meaning("At most this many test images are queries, chosen by the hash of their keys.", "images"),
        ] = 2000

    def run(self, data: ProbeData) -> ProbeResult:
        """Train is bank and gallery, test asks."""
        from reprise.measures.nearest.neighbours import classify

        bank, x = scoring.labelled(data, "train", BACKBONE)
        test, queries = scoring.labelled(data, data.test, BACKBONE)
        d = x.shape[1]
        widths = [m for m in sorted(set(self.params.widths)) if m < d]
        mean, axes = _principal(x)
        turned, turned_queries = (x - mean) @ axes, (queries - mean) @ axes
        metrics: dict[str, Figure] = {}
        for m in [*widths, d]:
            for word, a, b in (("", queries, x), ("pca_", turned_queries, turned)):
                if m == d and word:
                    continue  # all components are the features themselves, turned and centred
                answers, _ = classify(
                    a[:, :m], b[:, :m], bank.labels, len(data.classes), self.params.k, self.params.temperature,
                    data.device,
                )  # fmt: skip
                metrics[f"top1_{word}{m}"] = scoring.top1(test, answers, data.confidence)
        protocol = {
            **scoring.counts_note(data),
            "tap": BACKBONE,
            "classifier": f"kNN, cosine, k {min(self.params.k, len(bank))}, temperature {self.params.temperature:g}",
            "components": "principal axes of train, features centred there",
        }
        if widths:
            self._funnel(data, [*widths, d], metrics, protocol)
        return ProbeResult(metrics, protocol)

    def _funnel(self, data: ProbeData, widths: list[int], metrics: dict[str, Figure], protocol: dict[str, str]) -> None:
        """Retrieval by steps against all dimensions at once."""
        from reprise.measures.nearest.retrieval import average_precision, rankings
        from reprise.measures.statistics import bootstrap_mean

        gallery, rows = scoring.labelled(data, "train", BACKBONE)
        test = data.part(data.test)
        chosen = data.choose(data.test, self.params.queries)
        chosen = chosen[np.isin(test.labels[chosen], gallery.labels)]
        if len(chosen) == 0:
            return
        asked, truth = data.features(data.test, BACKBONE)[chosen], test.labels[chosen]
        groups = None if test.groups is None else test.groups[chosen]
        steps = [(m, max(10, self.params.shortlist >> i)) for i, m in enumerate(widths)]
        kept, cost = funnel(asked, rows, steps)
        possible = np.minimum(np.array([(gallery.labels == label).sum() for label in truth]), 10)
        right = gallery.labels[kept[:, :10]] == truth[:, None]
        by_steps = average_precision(right, 10) * right.sum(1) / possible  # of all right ones, not of those kept
        by_steps = np.where(right.any(axis=1), by_steps, 0.0)
        whole = np.empty(len(asked))
        for block, order in rankings(asked, rows, device=data.device):
            whole[block] = average_precision(gallery.labels[order] == truth[block, None], 10)
        for name, values in (("map_at_10", whole), ("map_at_10_funnel", by_steps)):
            metrics[name] = Figure(float(values.mean()), *bootstrap_mean(values, groups, data.confidence), len(values))
        if whole.mean() > 0:
            metrics["funnel_share"] = scoring.plain(float(by_steps.mean() / whole.mean()), len(asked))
        metrics["funnel_cost"] = scoring.plain(cost / (len(gallery) * widths[-1]), len(asked))
        protocol["funnel"] = ", ".join(f"{keep} by {m}" for m, keep in steps)


def _principal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and principal axes (d, d) as columns, by decreasing variance."""
    mean = x.mean(axis=0, dtype=np.float64)
    centred = x.astype(np.float64) - mean
    _, axes = np.linalg.eigh(centred.T @ centred)
    return mean, axes[:, ::-1]
