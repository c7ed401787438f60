"""Mean and variance of a changed image in closed form, and how many draws one would need to see them.

Source: Balestriero, Misra, LeCun, "A Data-Augmentation Is Worth a Thousand Samples", NeurIPS 2022.

A change whose outcomes can be listed, each with its probability, has an exact mean and variance in every pixel. What
varies continuously is integrated by Gauss and Legendre's rule. For linear models the expected loss follows from them
without a draw: it is the loss at the mean, and the variance through the weights.

Shape legend: n images, C channels, S side in pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reprise.training.change import Change, Frame


class Moments(NamedTuple):
    """Mean and variance in every pixel, each (n, C, S, S)."""

    mean: Tensor
    variance: Tensor

    def samples(self, error: float) -> float:
        """Return how many draws the mean of draws needs for this relative error of the whole picture."""
        return float(self.variance.sum() / (error**2 * self.mean.square().sum()))


def closed(change: Change, x: Tensor) -> Moments | None:
    """Compute the moments of the changed images; None where the change cannot list its outcomes.

    Args:
        change: of one view.
        x: (n, C, S, S) in [0, 1].
    """
    if change.outcomes(x) is None:
        return None
    x = x.double()
    mean, square = torch.zeros_like(x), torch.zeros_like(x)
    for share, image in change.outcomes(x) or ():
        mean += share * image
        square += share * image.square()
    mean = change.chance * mean + (1.0 - change.chance) * x
    square = change.chance * square + (1.0 - change.chance) * x.square()
    return Moments(mean, (square - mean.square()).clamp_(min=0.0))


def expected_loss(change: Change, x: Tensor, weights: Tensor, target: Tensor) -> Tensor:
    """Compute the expected squared error of a linear model over the outcomes of a change.

    It is |W E[x] - y|^2 + tr(W Cov[x] W^T): the second part is the regulariser that the change stands for.

    Args:
        change: of one view.
        x: (n, C, S, S) in [0, 1].
        weights: (m, C S S).
        target: (n, m).

    Returns:
        (n,).

    Raises:
        ValueError: the change cannot list its outcomes.
    """
    outcomes = change.outcomes(x.double())
    if outcomes is None:
        raise ValueError(f"{change.params.name} has no closed moments")
    weights = weights.double()
    still = x.double().flatten(1) @ weights.T
    mean, square = (1.0 - change.chance) * still, (1.0 - change.chance) * still.square()
    for share, image in outcomes:
        answer = image.flatten(1) @ weights.T
        mean, square = mean + change.chance * share * answer, square + change.chance * share * answer.square()
    return (mean - target).square().sum(dim=1) + (square - mean.square()).sum(dim=1)


def measured(change: Change, x: Tensor, draws: int, rng: torch.Generator) -> Moments:
    """Estimate the moments from draws.

    Args:
        change: of one view.
        x: (n, C, S, S) in [0, 1].
        draws: how many of each image.
        rng: a CPU generator.
    """
    frame = Frame(len(x), x.shape[-1], x.shape[-1], x.shape[-1], x.shape[1])
    mean, square = torch.zeros_like(x, dtype=torch.float64), torch.zeros_like(x, dtype=torch.float64)
    for _ in range(draws):
        image = change.apply(x.clone(), change.prepared(change.draw(frame, rng))).double()
        mean += image / draws
        square += image.square() / draws
    return Moments(mean, (square - mean.square()).clamp_(min=0.0))
