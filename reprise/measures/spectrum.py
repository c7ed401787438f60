"""Is a representation spread out or collapsed? Figures that need no labels.

None of them has an interval: duplicates, which drawing with replacement makes, bias rank, entropy and pair statistics.
They may be compared at equal n and d only (RankMe is at most min(n, d)).

Legend: `x_ND` features (n examples, d dimensions), numpy or torch; computed in float64.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch

RANKME_EPSILON = 1e-7  # Garrido et al. 2023, added to every share
COLLAPSED_STD = 0.1  # below: all features point the same way (1 is isotropic)
LOW_RANK_SHARE = 0.05  # below this share of min(n, d): dimensional collapse
UNIFORMITY_ROWS = 4096  # pairs grow with the square

Features: TypeAlias = np.ndarray | torch.Tensor


def _float64(x_ND: Features) -> torch.Tensor:
    x = torch.as_tensor(np.array(x_ND, dtype=np.float64) if isinstance(x_ND, np.ndarray) else x_ND).detach()
    x = x.to(torch.float64)
    if x.ndim != 2 or x.shape[0] == 0 or x.shape[1] == 0:
        raise ValueError(f"features must be (n, d) and not empty, got {tuple(x.shape)}")
    return x


def _normalised(x_ND: torch.Tensor) -> torch.Tensor:
    """Scale rows to length one; a zero row stays zero."""
    length = x_ND.norm(dim=1, keepdim=True)
    return x_ND / torch.where(length > 0, length, torch.ones_like(length))


def singular_values(x_ND: Features) -> torch.Tensor:
    """Return the (min(n, d),) singular values, decreasing, float64 on the CPU.

    They come from the eigenvalues of the smaller Gram matrix in float64. That is many times cheaper than an SVD of
    (n, d), and exact to about 1e-8 of the largest value, which is below RankMe's own epsilon.
    """
    x = _float64(x_ND)
    gram = x.T @ x if x.shape[1] <= x.shape[0] else x @ x.T
    return torch.linalg.eigvalsh(gram.cpu()).clamp(min=0).sqrt().flip(0)


def _exp_entropy(values: torch.Tensor, epsilon: float) -> float:
    total = values.sum()
    if total <= 0:
        return 0.0
    p = values / total + epsilon
    return float(torch.exp(-torch.special.xlogy(p, p).sum()))


def rankme(x_ND: Features) -> float:
    """Return the smooth rank: exp of the entropy of the normalised singular values, not centred.

    Source: Garrido et al. 2023, "RankMe", equation 1 (epsilon 1e-7). In [1, min(n, d)]; 0 when all features are 0.

    Raises:
        ValueError: not a filled (n, d) array.
    """
    return _exp_entropy(singular_values(x_ND), RANKME_EPSILON)


def effective_rank(x_ND: Features) -> float:
    """Return the rank as `rankme`, but after subtracting the mean and without epsilon (Roy and Vetterli 2007).

    A common offset does not count. The value is 0 when all rows are equal.
    """
    x = _float64(x_ND)
    centred = x - x.mean(0)
    if centred.norm() <= 1e-12 * x.norm():  # rounding of equal rows is no spread
        return 0.0
    return _exp_entropy(singular_values(centred), 0.0)


def participation_ratio(x_ND: Features) -> float:
    """Return (sum of covariance eigenvalues)^2 / sum of their squares, in [1, d]; 0 when all rows are equal."""
    x = _float64(x_ND)
    centred = x - x.mean(0)
    if centred.norm() <= 1e-12 * x.norm():
        return 0.0
    eigenvalues = singular_values(centred) ** 2
    return float(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def feature_std(x_ND: Features) -> float:
    """Return the standard deviation of l2-normalised features, averaged over dimensions, times sqrt(d).

    Source: Chen and He 2021 (SimSiam), figure 2, which plots it against 1 / sqrt(d). 1: isotropic; 0: collapsed
    (all features point the same way).
    """
    z = _normalised(_float64(x_ND))
    return float(z.std(dim=0, correction=0).mean() * z.shape[1] ** 0.5)


def uniformity(x_ND: Features, t: float = 2.0, rows: int = UNIFORMITY_ROWS, seed: int = 0) -> float:
    """Return log of the mean over pairs of exp(-t |z_i - z_j|^2), z l2-normalised (Wang and Isola 2020).

    Lower is more even. The value is at most 0, which means collapsed, and at least -4 t. Beyond `rows` examples a
    seeded sample is taken without replacement.

    Raises:
        ValueError: fewer than two rows.
    """
    z = _normalised(_float64(x_ND)).cpu()
    if len(z) < 2:
        raise ValueError("uniformity needs two rows")
    if len(z) > rows:
        z = z[torch.from_numpy(np.sort(np.random.default_rng(seed).choice(len(z), rows, replace=False)))]
    squared = (z * z).sum(1)
    total, n = 0.0, len(z)
    for start in range(0, n, 512):  # bounded memory: 512 rows at a time against those after them
        block = z[start : start + 512]
        distance = (squared[start : start + 512, None] + squared[None, :] - 2 * block @ z.T).clamp(min=0)
        total += float(torch.exp(-t * distance).triu(diagonal=start + 1).sum())
    return float(np.log(total / (n * (n - 1) / 2)))


def collapse(std: float, rank: float, n: int, d: int) -> str:
    """Judge `feature_std` and `rankme` of (n, d) features: "none", "complete" or "dimensional" collapse."""
    if std < COLLAPSED_STD:
        return "complete"
    return "dimensional" if rank < LOW_RANK_SHARE * min(n, d) else "none"


def spectrum(x_ND: Features) -> dict[str, Any]:
    """Compute all of the figures above by name; uniformity is None for a single row."""
    return {
        "rankme": rankme(x_ND),
        "effective_rank": effective_rank(x_ND),
        "participation_ratio": participation_ratio(x_ND),
        "feature_std": feature_std(x_ND),
        "uniformity": uniformity(x_ND) if len(x_ND) > 1 else None,
    }
