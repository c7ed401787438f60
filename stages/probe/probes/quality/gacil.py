"""Classes that arrive over time: an analytic classifier that learns phase by phase on frozen features.

The training images come in phases: some classes belong to one phase alone, the others ("blurry") are spread over all of
them, and no image is seen twice. A random ReLU layer widens the features, a ridge classifier is updated in closed form.
Its weights equal those of joint training, so the last phase shows no forgetting; `relative_error` states how equal.
Source: G-ACIL (Zhuang et al. 2024), ACIL (Zhuang et al. 2022); the recursion is that of recursive least squares:

    joint:   W = (X^T X + gamma I)^-1 X^T Y
    update:  R <- R - R X^T (I + X R X^T)^-1 X R,   W <- W + R X^T (Y - X W),   R = I / gamma at first

Float64 throughout: in float32 the errors of R feed on themselves. gamma is chosen on val by joint solutions.
Deviation: features of length one in front of the random layer, so that gamma means the same for every backbone.

Legend: n examples of a batch, D dimensions, c classes seen so far.

Checked by: tests/stages/probe/quality/test_gacil.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import Probability, Seed, StrictModel, meaning
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import may_choose
from stages.probe.probe import Probe, ProbeResult

Gamma = Annotated[float, Field(gt=0, le=1e6)]


def joint(x: np.ndarray, y: np.ndarray, gamma: float) -> np.ndarray:
    """(D, c) ridge weights of all of (n, D) and (n, c) at once."""
    x = np.asarray(x, dtype=np.float64)
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += gamma
    return np.linalg.solve(gram, x.T @ np.asarray(y, dtype=np.float64))


class IncrementalRidge:
    """Weights (D, c) after the batches so far; c grows when a batch names a new class.

    Args:
        dimensions: D. gamma: > 0.
    """

    def __init__(self, dimensions: int, gamma: float) -> None:
        if gamma <= 0:
            raise ValueError(f"gamma must be above 0, got {gamma}")
        self.inverse = np.eye(dimensions) / gamma
        self.weight = np.zeros((dimensions, 0))
        self.classes = np.zeros(0, dtype=np.int64)

    def update(self, x: np.ndarray, y: np.ndarray) -> None:
        """Learn one batch.

        Args:
            x: (n, D), n at least 1; a batch of at most D rows is cheapest. y: (n,) labels, new ones allowed.
        """
        x = np.asarray(x, dtype=np.float64)
        new = np.setdiff1d(y, self.classes)
        self.classes = np.concatenate([self.classes, new])
        self.weight = np.concatenate([self.weight, np.zeros((len(self.weight), len(new)))], axis=1)
        target = (np.asarray(y)[:, None] == self.classes).astype(np.float64)
        turned = x @ self.inverse
        self.inverse = self.inverse - turned.T @ np.linalg.solve(np.eye(len(x)) + turned @ x.T, turned)
        self.inverse = (self.inverse + self.inverse.T) / 2  # symmetric in exact arithmetic; rounding would build up
        self.weight = self.weight + self.inverse @ (x.T @ (target - x @ self.weight))


class Gacil(Probe):
    """Metrics: `top1` after the last phase, `top1_val`, `top1_average` over phases (test images of classes seen so
    far), `relative_error`: largest difference of the weights from joint training, over the largest weight.
    """

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `gacil`."""

        width: Annotated[int, Field(ge=2, le=8192), meaning("The random layer has this width.", "units")] = 1024
        gammas: Annotated[
            list[Gamma],
            Field(min_length=1, max_length=20),
            meaning("These ridge penalties are tried on val, and the best is taken."),
        ] = Field(default_factory=lambda: [10.0, 1.0, 0.1, 0.01])
        gamma: Annotated[Gamma, meaning("This ridge penalty is taken when val may not choose.")] = 0.1
        phases: Annotated[int, Field(ge=1, le=1000), meaning("Classes arrive in this many phases.", "phases")] = 5
        blurry: Annotated[Probability, meaning("This share of the classes appears in every phase.")] = 0.5
        batch: Annotated[int, Field(ge=1, le=8192), meaning("Each update sees this many images.", "images")] = 512
        seed: Annotated[Seed, meaning("The random choices (the layer and the phases) depend on this seed.")] = 0

    def run(self, data: ProbeData) -> ProbeResult:
        """Choose gamma, then learn the phases and score the classes seen after each."""
        train, x = scoring.labelled(data, "train", BACKBONE)
        val, x_val = scoring.labelled(data, "val", BACKBONE)
        test, x_test = scoring.labelled(data, data.test, BACKBONE)
        layer = np.random.default_rng([self.params.seed, 0]).normal(size=(x.shape[1], self.params.width))
        h, h_val, h_test = (_widened(values, layer) for values in (x, x_val, x_test))
        names = np.unique(train.labels)
        target = (train.labels[:, None] == names).astype(np.float64)
        why_not = may_choose(data, len(val))
        gamma, how = self.params.gamma, f"{self.params.gamma:g}, not chosen ({why_not})"
        if why_not is None:
            right = {
                g: (names[(h_val @ joint(h, target, g)).argmax(1)] == val.labels).mean()
                for g in sorted(self.params.gammas, reverse=True)
            }
            gamma = max(right, key=lambda g: right[g])  # on equal accuracy the stronger
            how = f"{gamma:g}, chosen on {len(val)} val images"
        model, average = IncrementalRidge(self.params.width, gamma), []
        for rows in self._phases(train.labels):
            for start in range(0, len(rows), self.params.batch):
                batch = rows[start : start + self.params.batch]
                model.update(h[batch], train.labels[batch])
            seen = np.isin(test.labels, model.classes)
            if seen.any():
                answers = model.classes[(h_test[seen] @ model.weight).argmax(1)]
                average.append(float((answers == test.labels[seen]).mean()))
        order = np.argsort(model.classes)
        weight = model.weight[:, order]
        whole = joint(h, target, gamma)
        scores = h_test @ weight
        predicted = names[scores.argmax(1)]
        error = float(np.abs(weight - whole).max() / max(np.abs(whole).max(), 1e-300))
        metrics = {
            "top1": scoring.top1(test, predicted, data.confidence),
            "relative_error": scoring.plain(error, len(train)),
        }
        if average:
            metrics["top1_average"] = scoring.plain(float(np.mean(average)), len(test))
        if data.test == "test" and len(val):
            metrics["top1_val"] = scoring.top1(val, names[(h_val @ weight).argmax(1)], data.confidence)
        protocol = {
            **scoring.counts_note(data),
            "tap": BACKBONE,
            "classifier": f"random ReLU layer of {self.params.width}, ridge in closed form, float64",
            "gamma": how,
            "phases": f"{self.params.phases}, {self.params.blurry:g} of the classes in all, seed {self.params.seed}",
        }
        return ProbeResult(metrics, protocol, scoring.predictions(test, predicted, scores.max(1), data.classes))

    def _phases(self, labels: np.ndarray) -> list[np.ndarray]:
        """Rows of each phase that has any: whole classes, and shares of the blurry ones."""
        rng = np.random.default_rng([self.params.seed, 1])
        names = rng.permutation(np.unique(labels))
        blurry = names[: round(self.params.blurry * len(names))]
        phase = rng.integers(0, self.params.phases, len(labels))  # of images of blurry classes
        for i, name in enumerate(names[len(blurry) :]):
            phase[labels == name] = i % self.params.phases
        found = [rng.permutation(np.flatnonzero(phase == p)) for p in range(self.params.phases)]
        return [rows for rows in found if len(rows)]


def _widened(x: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """(n, width) float64: length one, random directions, negative ones cut off."""
    from reprise.measures.unit_vectors import unit

    return np.maximum(unit(x) @ layer, 0.0)
