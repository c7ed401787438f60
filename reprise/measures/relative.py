"""Relative representations: an example by its cosines to fixed anchors, so that encoders can exchange decoders.

Source: Moschella et al. 2023. Encoders that differ by an orthogonal map and a scale give the same relative features,
so a decoder trained on one works on the other without further training (zero-shot stitching). Moving the features is no
such map: they are centred at the anchors' mean first.

Legend: `x_ND` features; `a_AD` features of the anchors, the same examples for all encoders; k classes.
"""

from __future__ import annotations

import numpy as np

from reprise.measures.unit_vectors import unit


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
