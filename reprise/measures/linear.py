"""Linear classifiers on frozen features, by full-batch L-BFGS.

    minimise over W (d, c), b (c):  mean_i loss(x_i W + b, y_i) + penalty / 2 * |W|^2

on standardised features x, the bias free. The loss is one of

- `softmax`: cross-entropy over the classes. scikit-learn's LogisticRegression minimises the same with
  C = 1 / (penalty * n).
- `squared_hinge`: sum over classes of max(0, 1 - s)^2, each class against the rest: a linear SVM. LinearSVC minimises
  the same with C = 1 / (penalty * n), but holds the bias down as well.
- `logistic`: sum over classes of log(1 + exp(-s)), each class for itself: labels of which several may hold.

with s = +logit where the class holds, -logit where it does not. The search is preconditioned: with W = L^-T V, where
L L^T = h * covariance + penalty (h: the loss's curvature at equal probabilities), the problem in V is nearly round, so
few steps are needed, however correlated the features are. A sample of rows is enough for the covariance: it changes
the path of the search and never the minimum. With few rows the features are first rotated to their principal axes, of
which there are at most n: the minimum lies in their span, and L is diagonal there.

Each step takes the rows in blocks that fit the cache and computes logits, loss and gradient of a block together.
Threads work on different blocks. The sums run over the blocks in their order, so the bits do not depend on the number
of threads.

Legend: n examples, d dimensions, c classes, m held-out examples, r principal axes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

Loss = Literal["softmax", "squared_hinge", "logistic"]

TOLERANCE = 5e-6  # of the largest entry of the gradient, in the scaled axes
ON_THE_WAY = 5e-5  # the same along a path of penalties: close enough to compare them; the chosen one goes on
STEPS = 1000  # of L-BFGS at most
SMALL = 1 << 24  # n * d * c below which one thread is used: a second one would end before it has woken up
BLOCK = 1024  # rows at a time
FINE = 128  # the same in float64 and for all dimensions at once
SAMPLE = 4096  # rows for the covariance, at least; 2 d where that is more
FEW = 16  # up to this many rows per dimension, (d, d) products at every step would cost more than the rotation


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Give each product one thread: several blocks run at the same time, and their threads would compete."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _side_by_side(work: Callable[[slice], tuple[Tensor, ...]], n: int, pool: ThreadPoolExecutor | None) -> list[Tensor]:
    """Add up what `work` returns for each block of rows, in the order of the blocks."""
    blocks = [slice(i, min(i + BLOCK, n)) for i in range(0, n, BLOCK)]
    total: list[Tensor] = []
    for found in map(work, blocks) if pool is None else pool.map(work, blocks):
        total = [a + b for a, b in zip(total, found, strict=True)] if total else list(found)
    return total


@dataclass(frozen=True)
class Classifier:
    """A fitted linear classifier on raw (not standardised) features.

    Args:
        weight: (d, c) float64.
        bias: (c,) float64.
        classes: (c,) labels that the columns stand for, increasing.
        penalty: L2 penalty on the mean loss.
        objective: its value at the solution, on standardised features.
        steps: iterations of L-BFGS.
        converged: whether the gradient is as small as asked for.
    """

    weight: np.ndarray
    bias: np.ndarray
    classes: np.ndarray
    penalty: float
    objective: float
    steps: int
    converged: bool

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Return the (m, c) float64 logits of (m, d) features."""
        return np.asarray(x, dtype=np.float64) @ self.weight + self.bias

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (m,) labels, the lowest on equal logits, and their (m,) softmax probabilities."""
        logits = self.logits(x)
        best = logits.argmax(axis=1)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return self.classes[best], shifted.max(axis=1) / shifted.sum(axis=1)


class Problem:
    """Standardised features, prepared once for any number of penalties.

    It holds one copy of x in `dtype`. A constant feature is centred and left at zero. With a single class every fit
    predicts that class.

    Args:
        x: (n, d) features.
        y: (n,) integer labels; the classes are those that occur. Or, but not for softmax, (n, c) of 1 (the class
            holds), -1 (it does not) and 0 (unknown, counts for nothing); the classes are the columns.
        dtype: of the products with the features; loss and gradient are summed up in float64.
        device: where the products are computed, `cpu` or `cuda`.
        loss: `softmax`, `squared_hinge` or `logistic`.
        scale: whether features are divided by their standard deviation; they are centred in any case.

    Raises:
        ValueError: no rows, numbers of rows and labels that differ, or several labels per row for softmax.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
        loss: Loss = "softmax",
        scale: bool = True,
    ) -> None:
        if len(x) == 0 or len(x) != len(y):
            raise ValueError(f"need a label for each row and at least one row, got {len(x)} rows, {len(y)} labels")
        self.loss, y = loss, np.asarray(y)
        if y.ndim == 1:
            self.classes, index = np.unique(y, return_inverse=True)
            target = index if loss == "softmax" else np.where(index[:, None] == np.arange(len(self.classes)), 1, -1)
        elif loss == "softmax":
            raise ValueError("softmax needs one label a row")
        else:
            self.classes, target = np.arange(y.shape[1]), y
        features = torch.from_numpy(np.ascontiguousarray(x))
        n, d = features.shape
        self.threads = 1 if device != "cpu" or n * d * len(self.classes) < SMALL else torch.get_num_threads()
        self.features = torch.empty((n, d), dtype=dtype)
        with self._pool() as pool:
            self.mean, self.std = _moments(features, pool)
            if not scale:
                self.std = torch.ones_like(self.std)

            def standardise(rows: slice) -> tuple[Tensor, ...]:
                self.features[rows] = (features[rows].double() - self.mean) / self.std
                return ()

            _side_by_side(standardise, n, pool)
            self.axes: Tensor | None = None
            if n <= FEW * d:
                self.axes, self.covariance = _principal(self.features.double())
                self.features = self.features @ self.axes.to(dtype)
            else:
                sample = self.features[:: max(1, n // max(SAMPLE, 2 * d))].double()
                self.covariance = sample.T @ sample / len(sample)
        self.features = self.features.to(device)
        self.target = torch.from_numpy(np.ascontiguousarray(target.T)).to(device)  # (n,) indices, or (c, n) signs

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor | None]:
        """Provide threads for the blocks, or None where one thread is enough; BLAS gets one thread in each of them."""
        with threadpool_limits(1, user_api="blas"), _one_thread_each():
            if self.threads == 1:
                yield None
            else:
                with ThreadPoolExecutor(self.threads) as pool:
                    yield pool

    def fit(self, penalty: float, start: Classifier | None = None, tolerance: float = TOLERANCE) -> Classifier:
        """Find the minimum for one penalty.

        Args:
            penalty: > 0.
            start: where the search begins; zero by default.
            tolerance: largest entry of the gradient, in the scaled axes, at which the search ends.
        """
        n, d, c = len(self.features), self.features.shape[1], len(self.classes)
        if c == 1 and self.loss == "softmax":
            return Classifier(np.zeros((len(self.std), 1)), np.zeros(1), self.classes, penalty, 0.0, 0, True)
        with self._pool() as pool:
            scale = _Scale(self._curvature(c), penalty)

            def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
                both = torch.from_numpy(flat).view(c, d + 1)
                weight, bias = scale.weight(both[:, :d]), both[:, d:]
                loss, slope, residual = self._sums(weight, bias, pool)
                gradient = scale.gradient(slope / n + penalty * weight)
                value = float(loss) / n + penalty / 2 * float((weight * weight).sum())
                return value, torch.cat([gradient, residual[:, None] / n], dim=1).view(-1).numpy()

            options = {"maxiter": STEPS, "maxfun": 2 * STEPS, "gtol": tolerance, "ftol": 0.0, "maxcor": 20}
            # L-BFGS-B without bounds is L-BFGS; ftol 0 leaves the gradient as the only criterion, because the objective
            # stops changing in its last digits long before the weights do.
            begin = self._start(start, scale)
            found = minimize(value_and_gradient, begin, jac=True, method="L-BFGS-B", options=options)
        both = torch.from_numpy(found.x).view(c, d + 1)
        turned = scale.weight(both[:, :d]).T  # back from V to W, then from principal axes and scales to raw features
        weight = (turned if self.axes is None else self.axes @ turned) / self.std[:, None]
        bias = both[:, d] - self.mean @ weight
        reached = float(np.abs(found.jac).max()) <= tolerance * 10
        return Classifier(
            weight.numpy(), bias.numpy(), self.classes, penalty, float(found.fun), int(found.nit), reached
        )

    def _sums(self, weight: Tensor, bias: Tensor, pool: ThreadPoolExecutor | None) -> list[Tensor]:
        """Sum over all rows: the loss (), its slope in the weights (c, d) and in the biases (c,), all float64."""
        dtype, device = self.features.dtype, self.features.device
        w, b = weight.to(device, dtype), bias.to(device, dtype)

        def work(rows: slice) -> tuple[Tensor, ...]:
            x = self.features[rows]
            logits = torch.addmm(b, w, x.T)  # BLAS takes (c, d) x (d, rows) up to three times faster
            loss, slope = _LOSSES[self.loss](logits, self.target[..., rows])
            return loss.cpu(), (slope @ x).double().cpu(), slope.sum(1, dtype=torch.float64).cpu()

        return _side_by_side(work, len(self.features), pool)

    def _curvature(self, c: int) -> Tensor:
        """Return the loss's curvature at equal probabilities: (d, d), or its diagonal (d,) in principal axes."""
        return {"softmax": (1 / c) * (1 - 1 / c), "squared_hinge": 2.0, "logistic": 0.25}[self.loss] * self.covariance

    def _start(self, start: Classifier | None, scale: _Scale) -> np.ndarray:
        """Express a classifier on raw features in the variables of the search: a row (V, bias) per class."""
        d, c = self.features.shape[1], len(self.classes)
        if start is None:
            return np.zeros((d + 1) * c)
        weight = torch.from_numpy(start.weight)
        standard = (weight * self.std[:, None]).T
        inner = scale.inner(standard if self.axes is None else standard @ self.axes)
        bias = torch.from_numpy(start.bias) + self.mean @ weight
        return torch.cat([inner, bias[:, None]], dim=1).view(-1).numpy()


class _Scale:
    """The preconditioner: W = V L^-1 for rows of (c, d), with L L^T = curvature + penalty; L may be diagonal."""

    def __init__(self, curvature: Tensor, penalty: float) -> None:
        self.diagonal = curvature.ndim == 1
        if self.diagonal:
            self.inverse = (curvature.clamp(min=0) + penalty).rsqrt()
            return
        identity = torch.eye(len(curvature), dtype=torch.float64)
        # With a small penalty rounding can make the matrix indefinite; a little on the diagonal prevents that.
        self.root = torch.linalg.cholesky(curvature + (penalty + 1e-9 * float(curvature.trace())) * identity)
        self.inverse = torch.linalg.solve_triangular(self.root, identity, upper=False)

    def weight(self, inner: Tensor) -> Tensor:
        """Map V to W."""
        return inner * self.inverse if self.diagonal else inner @ self.inverse

    def gradient(self, slope: Tensor) -> Tensor:
        """Map the slope in W to the slope in V."""
        return slope * self.inverse if self.diagonal else slope @ self.inverse.T

    def inner(self, weight: Tensor) -> Tensor:
        """Map W to V."""
        return weight / self.inverse if self.diagonal else weight @ self.root


def _principal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return orthonormal axes (d, r) along which (n, d) rows vary, and the mean squares along them (r,); r <= n."""
    n, d = x.shape
    if n > d:
        values, axes = torch.linalg.eigh(x.T @ x / n)
        return axes, values
    values, left = torch.linalg.eigh(x @ x.T / n)  # the smaller of the two Gram matrices has the same eigenvalues
    kept = values > 1e-12 * values[-1].clamp(min=1e-300)
    axes = x.T @ (left[:, kept] / (values[kept] * n).sqrt())
    return torch.linalg.qr(axes)[0] if kept.any() else torch.zeros((d, 1), dtype=x.dtype), (
        values[kept] if kept.any() else torch.zeros(1, dtype=x.dtype)
    )


def _softmax(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the losses () float64 and the slope in the logits (c, rows); overwrites `logits`.

    Args:
        logits: (c, rows).
        target: (rows,) index of each row's class.
    """
    target = target[None]
    logits -= logits.amax(0)  # no exponential overflows, and the probabilities stay the same
    right = logits.gather(0, target)
    share = logits.exp_()
    total = share.sum(0)
    loss = (total.log() - right[0]).sum(dtype=torch.float64)
    share /= total
    return loss, share.scatter_add_(0, target, torch.full_like(right, -1.0))


def _squared_hinge(logits: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the losses and the slope in the logits; `signs` (c, rows) are 1, -1, or 0 where unknown."""
    signs = signs.to(logits.dtype)
    short = (1 - signs * logits).clamp_(min=0).mul_(signs.abs())
    return (short * short).sum(dtype=torch.float64), -2 * signs * short


def _logistic(logits: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the losses and the slope in the logits; `signs` as in `_squared_hinge`."""
    signs = signs.to(logits.dtype)
    agree = signs * logits
    loss = (torch.nn.functional.softplus(-agree) * signs.abs()).sum(dtype=torch.float64)
    return loss, -signs * torch.sigmoid(-agree)


_LOSSES = {"softmax": _softmax, "squared_hinge": _squared_hinge, "logistic": _logistic}


def _moments(x: Tensor, pool: ThreadPoolExecutor | None) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each column, float64; 1 for a constant one, whose deviation is rounding."""
    shift = x[:BLOCK].double().mean(0)  # near the mean, so that the squares lose nothing

    def sums(rows: slice) -> tuple[Tensor, ...]:
        first, second = torch.zeros_like(shift), torch.zeros_like(shift)
        for part in x[rows].split(FINE):
            values = part - shift  # float64, and new whatever x is
            first += values.sum(0)
            second += values.square_().sum(0)
        return first, second

    first, second = _side_by_side(sums, len(x), pool)
    centre = first / len(x)
    std = (second / len(x) - centre * centre).clamp(min=0).sqrt()
    largest = torch.stack([part.abs().amax(0) for part in x.split(FINE)]).amax(0)
    constant = std <= 1e-9 * largest.double()
    return shift + centre, torch.where(constant, torch.ones_like(std), std)


@dataclass(frozen=True)
class Choice:
    """The classifier that `choose` chose.

    Args:
        classifier: fitted to full precision.
        path: (penalty, accuracy, log-loss) on the held-out rows for every penalty that was tried.
    """

    classifier: Classifier
    path: tuple[tuple[float, float, float], ...]


def choose(problem: Problem, x_val: np.ndarray, y_val: np.ndarray, penalties: Sequence[float]) -> Choice:
    """Fit along `penalties` (from strong to weak, warm starts) and keep the most accurate on held-out rows.

    Equal accuracy: the lower log-loss, then the stronger penalty. A held-out class that training lacks counts as an
    error for every penalty, and is left out of the log-loss.

    Args:
        problem: the training rows.
        x_val: (m, d), m >= 1.
        y_val: (m,) labels.
        penalties: L2 penalties on the mean loss.
    """
    best: tuple[float, float, Classifier] | None = None
    path, current = [], None
    known = np.isin(y_val, problem.classes)
    target = np.searchsorted(problem.classes, np.asarray(y_val)[known])
    for penalty in sorted(penalties, reverse=True):
        current = problem.fit(penalty, current, ON_THE_WAY)
        accuracy = float((current.predict(x_val)[0] == y_val).mean())
        logits = current.logits(np.asarray(x_val)[known])
        top = logits.max(axis=1, keepdims=True) if len(logits) else logits
        losses = np.log(np.exp(logits - top).sum(axis=1)) + top.ravel() - logits[np.arange(len(logits)), target]
        loss = float(losses.mean()) if len(losses) else 0.0
        path.append((penalty, accuracy, loss))
        if best is None or (accuracy, -loss) > (best[0], -best[1]):
            best = (accuracy, loss, current)
    assert best is not None
    return Choice(problem.fit(best[2].penalty, best[2]), tuple(path))
