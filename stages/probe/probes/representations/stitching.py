"""Can one encoder's classifier read another encoder's features, without any further training?

Source: Moschella et al. 2023 (relative representations): each image is described by its cosines to fixed anchor images,
the same for all encoders, so that encoders which differ by a rotation and a scale become interchangeable. Row a, column
b: accuracy of b's classifier on a's features. `stitched`: relative features; `absolute`: the features themselves, near
chance unless the encoders share their axes, and without a value where their dimensions differ. The diagonal is the
native accuracy. Overall, `kept`: off the diagonal, the mean share of the native accuracy of the classifier's encoder.
Deviation: the classifier is exact ridge regression on standardised features; features are centred at the anchors' mean,
since relative features are not invariant to translation; nothing is chosen.

Legend: `x_ND` features; `a_AD` features of the anchors, the same examples for all encoders; k classes.

Checked by: tests/stages/probe/representations/test_representation_figures.py.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from reprise.measures.unit_vectors import unit
from stages.probe.encoder import Encoder, Examples, RepresentationProbe


def relative(x_ND: np.ndarray, a_AD: np.ndarray) -> np.ndarray:
    """(n, anchors) cosines, both sides centred at the anchors' mean; float64. A zero row is at cosine 0 to all."""
    anchors = np.asarray(a_AD, dtype=np.float64)
    middle = anchors.mean(axis=0)
    return np.asarray(unit(np.asarray(x_ND, np.float64) - middle) @ unit(anchors - middle).T)


class RidgeClassifier:
    """Ridge regression on one-hot labels of standardised features, solved exactly in float64: nothing random.

    Args:
        x_ND: training features. labels: (n,) in 0..classes-1. penalty: on coefficients, times n.
    """

    def __init__(self, x_ND: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> None:
        x = np.asarray(x_ND, dtype=np.float64)
        self.mean, std = x.mean(axis=0), x.std(axis=0)
        self.scale = 1 / np.where(std > 0, std, 1.0)
        z, targets = (x - self.mean) * self.scale, np.eye(classes)[labels]
        self.bias = targets.mean(axis=0)
        gram = z.T @ z + penalty * len(z) * np.eye(z.shape[1])
        self.weights = np.linalg.solve(gram, z.T @ (targets - self.bias))

    def predict(self, x_ND: np.ndarray) -> np.ndarray:
        """(n,) classes; the lowest on ties."""
        z = (np.asarray(x_ND, dtype=np.float64) - self.mean) * self.scale
        return np.asarray((z @ self.weights + self.bias).argmax(axis=1))


class Stitching(RepresentationProbe):
    """Metrics: `stitched`, `absolute`."""

    symmetric: ClassVar[bool] = False
    caption: ClassVar[str] = "accuracy of the column's classifier on the row's features; the diagonal is native"
    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `stitching`."""

        anchors: Annotated[
            int,
            Field(ge=2, le=5000),
            meaning("At most this many training images join the two encoders, the first by key.", "images"),
        ] = 300
        penalty: Annotated[
            float, Field(gt=0, le=1e6), meaning("The ridge regression has this penalty per example.")
        ] = 0.01

    def prepare(self, encoder: Encoder, examples: Examples) -> dict[str, Any]:
        """Relative and absolute features of the scored images, and a classifier for each."""
        known, scored = examples.train_labels >= 0, examples.test_labels >= 0
        labels, classes = examples.train_labels[known], len(examples.classes)
        anchors = encoder.train[: self.params.anchors]
        views = {
            "stitched": (relative(encoder.train[known], anchors), relative(encoder.test[scored], anchors)),
            "absolute": (encoder.train[known], encoder.test[scored]),
        }
        prepared = {
            name: (RidgeClassifier(train, labels, classes, self.params.penalty), test)
            for name, (train, test) in views.items()
        }
        return {"labels": examples.test_labels[scored], **prepared}

    def compare(self, a: dict[str, Any], b: dict[str, Any]) -> dict[str, float | None]:
        """b's classifiers on a's features."""
        found: dict[str, float | None] = {}
        for name in ("stitched", "absolute"):
            classifier, x = b[name][0], a[name][1]
            fits = x.shape[1] == len(classifier.mean)
            found[name] = float((classifier.predict(x) == a["labels"]).mean()) if fits else None
        return found

    def overall(self, matrices: dict[str, np.ndarray]) -> dict[str, float]:
        """Share of the native accuracy that is kept, relative and absolute; none with one encoder."""
        found = {}
        for metric, name in (("stitched", "kept"), ("absolute", "kept_absolute")):
            m = matrices[metric]
            native = np.diag(m)[None, :].repeat(len(m), axis=0)
            use = ~np.eye(len(m), dtype=bool) & np.isfinite(m) & (native > 0)
            if use.any():
                found[name] = float((m[use] / native[use]).mean())
        return found

    def protocol(self, examples: Examples) -> dict[str, str]:
        """Which images, anchors and classifier."""
        train, test = int((examples.train_labels >= 0).sum()), int((examples.test_labels >= 0).sum())
        return {
            "tap": "backbone",
            "images": f"{train} labelled of train, {test} of {examples.scored}",
            "anchors": f"{min(self.params.anchors, len(examples.train_keys))} of train, centred at their mean",
            "classifier": f"ridge regression on standardised features, penalty {self.params.penalty:g}",
        }
