"""Labels that move with every step: centroids follow their members, small clusters are refilled. ODC's and InterCLR's.

Source: Zhan, Xie, Liu, Ong, Loy, "Online Deep Clustering for Unsupervised Representation Learning", CVPR 2020.

Shape legend: n images, d width, K clusters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reprise.runtime.seeds import numpy_rng, torch_rng
from stages.pretrain.parts.memory import nearest_centroids, spherical_kmeans

FIRST_ITERATIONS = 10  # of the k-means that gives the first labels


@torch.no_grad()
def means_of(vectors: Tensor, labels: Tensor, old: Tensor) -> Tensor:
    """Return (K, d) unit means of the clusters' members; an empty cluster keeps its old centroid."""
    sums = torch.zeros_like(old).index_add_(0, labels, vectors)
    members = torch.bincount(labels, minlength=len(old)) > 0
    return torch.where(members[:, None], F.normalize(sums, dim=1), old)


@torch.no_grad()
def refill(
    vectors: Tensor, labels: Tensor, centroids: Tensor, smallest: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Dissolve clusters with fewer than `smallest` members and split the largest into their places.

    Returns:
        New (n,) labels and (K, d) centroids. Clusters that a split could not fill stay as they were.
    """
    labels, centroids = labels.clone(), centroids.clone()
    for small in torch.nonzero(torch.bincount(labels, minlength=len(centroids)) < smallest)[:, 0].tolist():
        leaving = labels == small
        if leaving.any():
            scores = vectors[leaving] @ centroids.T
            scores[:, small] = -torch.inf
            labels[leaving] = scores.argmax(dim=1)
        largest = int(torch.bincount(labels, minlength=len(centroids)).argmax())
        members = torch.nonzero(labels == largest)[:, 0]
        half = members[torch.randperm(len(members), generator=generator).to(members.device)[: len(members) // 2]]
        other = members[~torch.isin(members, half)]
        pair = torch.stack([F.normalize(vectors[part].sum(dim=0), dim=0) for part in (other, half)])
        moved = members[(vectors[members] @ pair.T).argmax(dim=1) == 1]
        if 0 < len(moved) < len(members):
            labels[moved] = small
            centroids[largest], centroids[small] = pair
    return labels, means_of(vectors, labels, centroids)


@torch.no_grad()
def move_labels(
    vectors: Tensor, labels: Tensor, centroids: Tensor, count: int, *, every: int, smallest: int, seed: int
) -> None:
    """Give the first labels, or let centroids follow and refill small clusters; both change in place.

    Args:
        vectors: (n, d) of length one. labels: (n,) int64. centroids: (K, d).
        count: steps since the images have labels; 0 makes the first ones by spherical k-means.
        every: steps between two moves.
        smallest: clusters with fewer images are dissolved at a move.
        seed: of the run, for the draws.
    """
    if count == 0:
        rng = numpy_rng(seed, "clusters", count)
        centroids.copy_(spherical_kmeans(vectors, len(centroids), FIRST_ITERATIONS, rng))
        labels.copy_(nearest_centroids(vectors, centroids))
    elif count % every == 0:
        found = means_of(vectors, labels, centroids)
        moved, found = refill(vectors, labels, found, smallest, torch_rng(seed, "clusters", count))
        labels.copy_(moved)
        centroids.copy_(found)
