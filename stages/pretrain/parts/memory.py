"""A vector for every training image, and clusters of these vectors: DeepCluster-v2's and ODC's memory.

The memory is a buffer of (n, d), so a checkpoint holds it. An epoch shows every image once: when as many images were
written as there are, the memory is whole.

Shape legend: n images, d width, K clusters.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.objectives.precision import full_precision


class Memory(nn.Module):
    """The latest vector of each image, of length one; `momentum` of the old one is kept."""

    vectors: Tensor
    written: Tensor

    def __init__(self, images: int, width: int, momentum: float = 0.0) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("vectors", torch.zeros(images, width))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def write(self, rows: Tensor, z: Tensor) -> None:
        """Take in (B, d) vectors of these images; the first vector of an image is taken whole."""
        new = F.normalize(z.detach().to(self.vectors.dtype), dim=1)
        old = self.vectors[rows]
        known = old.norm(dim=1, keepdim=True) > 0
        mixed = F.normalize(self.momentum * old + (1.0 - self.momentum) * new, dim=1)
        self.vectors[rows] = torch.where(known, mixed, new)
        self.written += len(rows)


@torch.no_grad()
@full_precision
def nearest_centroids(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Find the centroid of largest inner product with each row, the first of equal ones: (n,) int64."""
    return (vectors @ centroids.T).argmax(dim=1)


@torch.no_grad()
def spherical_kmeans(vectors: Tensor, clusters: int, iterations: int, rng: np.random.Generator) -> Tensor:
    """Find centroids of unit vectors by cosine (Caron et al. 2020, appendix): means of members, of length one.

    It starts at `clusters` different rows; fewer rows than clusters are drawn again. A cluster without members takes
    the row that is farthest from its own centroid.

    Args:
        vectors: (n, d) rows of length one.
        clusters: K.
        iterations: moves at most.
        rng: draws the first centroids.

    Returns:
        (K, d), rows of length one.
    """
    from reprise.clustering.kmeans import kmeans
    from reprise.clustering.starts import random_rows

    found = kmeans(
        vectors.float().cpu().numpy(), clusters, iterations, 1, rng,
        spherical=True, start=random_rows, device=vectors.device.type,
    )  # fmt: skip
    return torch.from_numpy(found).to(vectors)
