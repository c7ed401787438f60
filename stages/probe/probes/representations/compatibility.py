"""May a new model answer queries from a gallery that an old one embedded, without embedding it again?

Source: Biondi et al. 2023/2024 (CL2R; stationary representations): the cross-test. Row a, column b: queries (the scored
split) embedded by a, gallery (train) by b, cosine similarity as it is: nothing is trained in between. `retrieval`
answers with the label of the most similar gallery image, `class_mean` with that of the most similar class mean, which
the authors' code calls 1:N search. Encoders of different dimensions cannot be compared. Overall, with the encoders
taken as versions in their order: AC, the share of pairs where the newer model's queries on the older gallery beat the
older model on itself, and AM, the mean of the lower triangle. Models that were trained apart are not compatible; the
probe is meant for versions of one model (`reprise compare-representations`).

Legend: `c_VV[i][j]` is the score of queries by version i on the gallery of version j, in the order of time; the
diagonal is each version on itself. Q queries, N gallery images, D dimensions.

Checked by: tests/stages/probe/representations/test_representation_figures.py.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from reprise.config.params import StrictModel
from reprise.measures.unit_vectors import unit
from stages.probe.encoder import Encoder, Examples, RepresentationProbe

_BLOCK = 1024  # queries at a time


def average_compatibility(c_VV: np.ndarray) -> float:
    """AC: share of pairs i > j in which new queries on the old gallery beat the old model on itself, strictly.

    Raises:
        ValueError: fewer than two versions, or not a square.
    """
    c = _square(c_VV)
    new, old = np.tril_indices(len(c), -1)
    return float((c[new, old] > c[old, old]).mean())


def average_matrix(c_VV: np.ndarray) -> float:
    """AM: mean of the lower triangle with the diagonal, cells of 0 left out as in the authors' code; 0 if all are."""
    lower = _square(c_VV)[np.tril_indices(len(c_VV))]
    return float(lower[lower != 0].mean()) if (lower != 0).any() else 0.0


def _square(c_VV: np.ndarray) -> np.ndarray:
    c = np.asarray(c_VV, dtype=np.float64)
    if c.ndim != 2 or c.shape[0] != c.shape[1] or len(c) < 2:
        raise ValueError(f"a compatibility matrix is square, of two versions or more, got {c.shape}")
    return c


def nearest_example(queries_QD: np.ndarray, gallery_ND: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(q,) label of the most similar gallery row by cosine; the lowest row on ties."""
    queries, gallery = unit(queries_QD), unit(gallery_ND)
    blocks = [(queries[i : i + _BLOCK] @ gallery.T).argmax(axis=1) for i in range(0, len(queries), _BLOCK)]
    return np.asarray(labels)[np.concatenate(blocks)]


def nearest_mean(queries_QD: np.ndarray, gallery_ND: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(q,) class whose mean normalised gallery feature is most similar by cosine: the "1:N search" of that code."""
    names, index = np.unique(labels, return_inverse=True)
    gallery = unit(gallery_ND)
    sums = np.zeros((len(names), gallery.shape[1]))
    np.add.at(sums, index, gallery)
    return np.asarray(names[(unit(queries_QD) @ unit(sums).T).argmax(axis=1)])


class Compatibility(RepresentationProbe):
    """Metrics: `retrieval`, `class_mean`; overall `ac_...` and `am_...` of each."""

    symmetric: ClassVar[bool] = False
    caption: ClassVar[str] = "accuracy of the row's queries on the column's gallery; the diagonal is each on itself"
    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """None."""

    def prepare(self, encoder: Encoder, examples: Examples) -> dict[str, Any]:
        """Labelled gallery and queries."""
        known, scored = examples.train_labels >= 0, examples.test_labels >= 0
        return {
            "gallery": encoder.train[known],
            "gallery_labels": examples.train_labels[known],
            "queries": encoder.test[scored],
            "labels": examples.test_labels[scored],
        }

    def compare(self, a: dict[str, Any], b: dict[str, Any]) -> dict[str, float | None]:
        """a's queries on b's gallery."""
        if a["queries"].shape[1] != b["gallery"].shape[1]:
            return {"retrieval": None, "class_mean": None}
        found = {
            name: answer(a["queries"], b["gallery"], b["gallery_labels"])
            for name, answer in (("retrieval", nearest_example), ("class_mean", nearest_mean))
        }
        return {name: float((answers == a["labels"]).mean()) for name, answers in found.items()}

    def overall(self, matrices: dict[str, np.ndarray]) -> dict[str, float]:
        """AC and AM, where all encoders have equal dimensions and there are two or more."""
        whole = {name: m for name, m in matrices.items() if len(m) > 1 and np.isfinite(m).all()}
        return {
            f"{short}_{name}": figure(m)
            for name, m in whole.items()
            for short, figure in (("ac", average_compatibility), ("am", average_matrix))
        }

    def protocol(self, examples: Examples) -> dict[str, str]:
        """Which images."""
        train, test = int((examples.train_labels >= 0).sum()), int((examples.test_labels >= 0).sum())
        return {
            "tap": "backbone",
            "gallery": f"{train} labelled images of train",
            "queries": f"{test} labelled images of {examples.scored}",
            "similarity": "cosine",
        }
