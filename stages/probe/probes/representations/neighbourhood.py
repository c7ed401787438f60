"""Do two representations find the same images alike? Mutual nearest neighbours, and disagreement of the answers.

Source: Huh et al. 2024 (mutual kNN: mean share of the k nearest that both encoders have in common). Disagreement is
that of their kNN classifiers on the scored split: the share of images with different answers, and Cohen's kappa, which
takes out the agreement that their answers' frequencies bring by chance. Two models of one accuracy may agree on
little. Cosine similarity; chance level of `mutual_knn` in the protocol.

Checked by: tests/stages/probe/representations/test_representation_figures.py.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe.encoder import Encoder, Examples, RepresentationProbe


def mutual_neighbours(a_NK: np.ndarray, b_NK: np.ndarray) -> float:
    """Mean share of neighbours in common (Huh et al. 2024, "mutual kNN"), from (n, k) neighbour rows of each side."""
    n, k = a_NK.shape
    rows = np.repeat(np.arange(n), k)
    size = int(max(a_NK.max(), b_NK.max())) + 1
    return len(np.intersect1d(rows * size + a_NK.ravel(), rows * size + b_NK.ravel())) / (n * k)


def kappa(a: np.ndarray, b: np.ndarray, classes: int) -> float:
    """Cohen's kappa of two (n,) answers in 0..classes-1; 1 when both always give one and the same answer."""
    shares = [np.bincount(answers, minlength=classes) / len(answers) for answers in (a, b)]
    agreed, chance = float((a == b).mean()), float(shares[0] @ shares[1])
    return (agreed - chance) / (1 - chance) if chance < 1 else 1.0


class Neighbourhood(RepresentationProbe):
    """Metrics: `mutual_knn`; with labels `disagreement` and `kappa`."""

    symmetric: ClassVar[bool] = True
    caption: ClassVar[str] = "mutual_knn 1: the same neighbours; disagreement 0: the same answers"
    needs_labels: ClassVar[bool] = False

    class Params(StrictModel):
        """Parameters of `neighbourhood`."""

        k: Annotated[
            int,
            Field(ge=1, le=1000),
            meaning("Neighbours in common are counted among this many nearest ones.", "neighbours"),
        ] = 10
        votes: Annotated[
            int,
            Field(ge=1, le=1000),
            meaning("This many neighbours vote in the classifiers whose answers are compared.", "neighbours"),
        ] = 20
        temperature: Annotated[float, Field(gt=0, le=100), meaning("A vote weighs exp(cosine / temperature).")] = 0.07

    def prepare(self, encoder: Encoder, examples: Examples) -> dict[str, Any]:
        """Neighbours of each scored image among the others, and the classifier's answers."""
        from reprise.measures.nearest.neighbours import classify, top_k

        n = len(encoder.test)
        _, rows = top_k(encoder.test, encoder.test, min(self.params.k + 1, n))
        others = rows != np.arange(n)[:, None]
        others[others.all(axis=1), -1] = False  # more equal images than neighbours: it is not among its own
        near = rows[others].reshape(n, rows.shape[1] - 1)
        answers = None
        if examples.labelled:
            known = examples.train_labels >= 0
            bank, labels = encoder.train[known], examples.train_labels[known]
            classes = len(examples.classes)
            answers, _ = classify(encoder.test, bank, labels, classes, self.params.votes, self.params.temperature)
        return {"near": near, "answers": answers, "classes": len(examples.classes)}

    def compare(self, a: dict[str, Any], b: dict[str, Any]) -> dict[str, float | None]:
        """One pair."""
        found: dict[str, float | None] = {"mutual_knn": mutual_neighbours(a["near"], b["near"])}
        if a["answers"] is not None:
            found["disagreement"] = float((a["answers"] != b["answers"]).mean())
            found["kappa"] = kappa(a["answers"], b["answers"], a["classes"])
        return found

    def protocol(self, examples: Examples) -> dict[str, str]:
        """Which images, and the chance level."""
        n = len(examples.test_keys)
        k = min(self.params.k, n - 1)
        note = {"tap": "backbone", "images": f"{n} of {examples.scored}", "k": f"{k}", "similarity": "cosine"}
        note["mutual_knn by chance"] = f"{k / (n - 1):.4f}"
        if examples.labelled:
            note["answers"] = f"of a kNN classifier, {self.params.votes} votes of {len(examples.train_keys)} of train"
        return note
