"""Multinomial logistic regression on frozen features, by full-batch L-BFGS.

    minimise over W (d, c), b (c):  mean_i CE(x_i W + b, y_i) + penalty / 2 * |W|^2

on standardised features x, the bias free. scikit-learn's LogisticRegression minimises the same with
C = 1 / (penalty * n). The search runs in the features' own axes, scaled by the curvature that the loss has there:
with W = Q diag(s) V, where Q are the eigenvectors of the features' covariance and s = 1 / sqrt(h * eigenvalue +
penalty), the problem in V is nearly round, so few steps are needed, however correlated the features. Q is a rotation,
so the penalty keeps its form and the minimum is the same.

Legend: n examples, d dimensions, c classes.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOLERANCE = 1e-5  # of the largest entry of the gradient, in the scaled axes
STEPS = 1000
SMALL = 1 << 24  # n * d * c below which one thread is used


@contextmanager
def fitting_threads(work: int) -> Iterator[None]:
    """One thread for small problems: their products end before a second one has woken up, and on a busy machine the
    waiting cost many times the work. As a gain, their bits do not depend on the number of threads.
    """
    before = torch.get_num_threads()
    if work < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Classifier:
    """A fitted linear classifier on raw (not standardised) features."""

    weight: np.ndarray  # (d, c) float64
    bias: np.ndarray  # (c,) float64
    classes: np.ndarray  # (c,) the labels that the columns stand for, increasing
    penalty: float
    objective: float  # at the solution, on standardised features
    steps: int
    converged: bool

    def logits(self, x: np.ndarray) -> np.ndarray:
        """(m, d) features -> (m, c) float64."""
        return np.asarray(x, dtype=np.float64) @ self.weight + self.bias

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels (m,), the lowest on equal logits, and their softmax probability (m,)."""
        logits = self.logits(x)
        best = logits.argmax(axis=1)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return self.classes[best], shifted.max(axis=1) / shifted.sum(axis=1)


class Problem:
    """Standardised and rotated features, prepared once for any number of penalties.

    Args:
        x: (n, d) features. y: (n,) integer labels; classes are those that occur.
        dtype: of the products with the features; loss and gradient are summed up in float64.

    A constant feature is centred and left at zero. With a single class every fit predicts it.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, dtype: torch.dtype = torch.float64) -> None:
        if len(x) == 0 or len(x) != len(y):
            raise ValueError(f"need a label for each row and at least one row, got {len(x)} rows, {len(y)} labels")
        self.classes, index = np.unique(np.asarray(y), return_inverse=True)
        features = torch.from_numpy(np.array(x, dtype=np.float64))  # the one copy, worked on in place
        std, self.mean = torch.std_mean(features, dim=0, correction=0)
        low, high = torch.aminmax(features, dim=0)
        # the deviation of a constant column is rounding, not information
        constant = std <= 1e-9 * torch.maximum(low.abs(), high.abs())
        self.std = torch.where(constant, torch.ones_like(std), std)
        standard = features.sub_(self.mean).div_(self.std).to(dtype)
        self.work = standard.numel() * len(self.classes)
        with fitting_threads(self.work):
            # rounding of the covariance bends the scale of the search a little; the rotation is orthogonal all the same
            covariance = (standard.T @ standard / len(standard)).double()
            eigenvalues, self.rotation = torch.linalg.eigh(covariance)
            self.rotated = standard @ self.rotation.to(dtype)
        self.eigenvalues = eigenvalues.clamp(min=0)
        self.target = torch.from_numpy(index)

    def fit(self, penalty: float, start: Classifier | None = None) -> Classifier:
        """The minimum for one penalty (> 0), searched from `start` or from zero."""
        n, d, c = len(self.rotated), self.rotated.shape[1], len(self.classes)
        if c == 1:
            return Classifier(np.zeros((d, 1)), np.zeros(1), self.classes, penalty, 0.0, 0, True)
        curvature = (1 / c) * (1 - 1 / c)  # of cross-entropy at equal probabilities
        scale = (curvature * self.eigenvalues + penalty).rsqrt()
        column = torch.arange(n)

        def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            both = torch.from_numpy(flat).view(c, d + 1)  # BLAS takes (c, d) x (d, n) up to three times faster
            weight = both[:, :d] * scale
            logits = (weight.to(self.rotated.dtype) @ self.rotated.T).double() + both[:, d:]
            log_sum = logits.logsumexp(0)
            loss = (log_sum - logits[self.target, column]).mean() + penalty / 2 * (weight * weight).sum()
            residual = (logits - log_sum).exp_()
            residual[self.target, column] -= 1.0
            residual /= n
            slope = (residual.to(self.rotated.dtype) @ self.rotated).double() + penalty * weight
            return float(loss), torch.cat([slope * scale, residual.sum(1, keepdim=True)], dim=1).view(-1).numpy()

        options = {"maxiter": STEPS, "maxfun": 2 * STEPS, "gtol": TOLERANCE, "ftol": 0.0, "maxcor": 20}
        # the optimiser's own algebra is on vectors of (d + 1) c numbers, always too short for BLAS threads
        with fitting_threads(self.work), threadpool_limits(1, user_api="blas"):
            begin = self._start(start, scale)
            found = minimize(value_and_gradient, begin, jac=True, method="L-BFGS-B", options=options)
        both = torch.from_numpy(found.x).view(c, d + 1)
        weight = (self.rotation @ (both[:, :d] * scale).T) / self.std[:, None]
        bias = both[:, d] - self.mean @ weight
        reached = float(np.abs(found.jac).max()) <= TOLERANCE * 10
        return Classifier(
            weight.numpy(), bias.numpy(), self.classes, penalty, float(found.fun), int(found.nit), reached
        )

    def _start(self, start: Classifier | None, scale: torch.Tensor) -> np.ndarray:
        d, c = self.rotated.shape[1], len(self.classes)
        if start is None:
            return np.zeros((d + 1) * c)
        weight = torch.from_numpy(start.weight)
        inner = (self.rotation.T @ (weight * self.std[:, None])).T / scale
        bias = torch.from_numpy(start.bias) + self.mean @ weight
        return torch.cat([inner, bias[:, None]], dim=1).view(-1).numpy()


@dataclass(frozen=True)
class Choice:
    """What `choose` found: the classifier, and accuracy and log-loss on the held-out rows for each penalty."""

    classifier: Classifier
    path: tuple[tuple[float, float, float], ...]  # (penalty, accuracy, log-loss)


def choose(problem: Problem, x_val: np.ndarray, y_val: np.ndarray, penalties: Sequence[float]) -> Choice:
    """Fit along `penalties` (from strong to weak, warm starts) and keep the most accurate on held-out rows.

    Equal accuracy: the lower log-loss, then the stronger penalty. A held-out class that training lacks counts as an
    error for every penalty, and is left out of the log-loss.

    Args:
        x_val: (m, d), m >= 1. y_val: (m,).
    """
    best: tuple[float, float, Classifier] | None = None
    path, current = [], None
    known = np.isin(y_val, problem.classes)
    target = np.searchsorted(problem.classes, np.asarray(y_val)[known])
    for penalty in sorted(penalties, reverse=True):
        current = problem.fit(penalty, current)
        accuracy = float((current.predict(x_val)[0] == y_val).mean())
        logits = current.logits(np.asarray(x_val)[known])
        top = logits.max(axis=1, keepdims=True) if len(logits) else logits
        losses = np.log(np.exp(logits - top).sum(axis=1)) + top.ravel() - logits[np.arange(len(logits)), target]
        loss = float(losses.mean()) if len(losses) else 0.0
        path.append((penalty, accuracy, loss))
        if best is None or (accuracy, -loss) > (best[0], -best[1]):
            best = (accuracy, loss, current)
    assert best is not None
    return Choice(best[2], tuple(path))
