"""Does the objective of `nmce` tell two spirals apart, where k-means cuts across them? Points in the plane, seeds.

    python -m studies.spirals [--seeds 3] [--steps 3000] [--batch 512]

The toy of NMCE (Li et al. 2022; the release's notebook): two Swiss rolls, one the negative of the other, new points in
every step, and two views of a point that differ by Gaussian noise. A multilayer perceptron has a head of features and
one of clusters, and is trained by the same functions as the method, all at once, as in the notebook: there the spirals
need no phases. The notebook trains 30,000 steps of 4,096 points; fewer of both are the default here. Printed for each
seed: the accuracy on 2,000 new points, of the clusters and of k-means.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from reprise.measures.cluster_quality import contingency, hungarian_accuracy
from reprise.objectives.memberships import gumbel_softmax
from reprise.runtime.seeds import numpy_rng, seed_torch
from studies.paired import said

WIDTH, FEATURES, NOISE = 128, 6, 0.2
PRECISION, INVARIANCE, GUMBEL = 0.01, 4000.0, 0.2


class Spirals(nn.Module):
    """A perceptron of five layers, a head of features and a head of two clusters."""

    def __init__(self) -> None:
        super().__init__()
        widths = [2, *[WIDTH] * 5]
        layers = [(nn.Linear(a, b), nn.ELU()) for a, b in pairwise(widths)]
        self.body = nn.Sequential(*(part for layer in layers for part in layer))
        self.features, self.clusters = nn.Linear(WIDTH, FEATURES), nn.Linear(WIDTH, 2)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features and logits of clusters: (n, 2) -> (n, FEATURES), (n, 2)."""
        h = self.body(points)
        return self.features(h), self.clusters(h)


def points(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw points on two spirals: (count, 2) float32, and on which they lie, (count,) int64.

    The Swiss roll of scikit-learn without its height: angle t between 1.5 pi and 4.5 pi, radius t, noise of 0.1.
    """
    angle = 1.5 * np.pi * (1 + 2 * rng.random(count))
    place = np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1) + 0.1 * rng.normal(size=(count, 2))
    which = np.arange(count) % 2
    return (place * np.where(which == 1, -1, 1)[:, None]).astype(np.float32), which


def train(seed: int, steps: int, batch: int) -> Spirals:
    """Train with new points in every step."""
    from stages.pretrain.methods.clustering.nmce import clusters_loss

    rng = numpy_rng(seed, "spirals")
    seed_torch(seed, "spirals")
    network = Spirals()
    optimizer = torch.optim.Adam(network.parameters(), 0.001, (0.9, 0.99), weight_decay=1e-5)
    for _ in range(steps):
        place = torch.from_numpy(points(batch, rng)[0])
        views = torch.cat([place + NOISE * torch.randn_like(place) for _ in range(2)])
        features, logits = network(views)
        drawn = gumbel_softmax(logits, GUMBEL, torch.rand_like(logits))
        loss = clusters_loss(torch.stack(features.chunk(2)), torch.stack(drawn.chunk(2)), INVARIANCE, PRECISION)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return network


def accuracies(network: Spirals, seed: int) -> tuple[float, float]:
    """Return the accuracy of the clusters, and of k-means on the places, in percent."""
    import tempfile

    from reprise.config.plug_ins.registry import load_class
    from stages.mine.miner import Miner

    place, which = points(2000, numpy_rng(seed, "new spirals"))
    with torch.no_grad():
        found = network(torch.from_numpy(place))[1].argmax(dim=1).numpy()
    kind = load_class("miners", "kmeans", Miner, "")
    with tempfile.TemporaryDirectory() as work:
        plain = kind(kind.Params.model_validate({"clusters": 2, "starts": 10}), seed).mine(place, None, Path(work))
    return tuple(100 * hungarian_accuracy(contingency(c, which)) for c in (found, plain.clusters))  # type: ignore[return-value]


def main() -> None:
    """Train, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=512)
    options = parser.parse_args()
    differences = []
    print("| seed | clusters of nmce % | k-means % | s of one core |\n|---|---|---|---|")
    for seed in range(options.seeds):
        began = time.process_time()
        ours, plain = accuracies(train(seed, options.steps, options.batch), seed)
        differences.append(ours - plain)
        print(f"| {seed} | {ours:.1f} | {plain:.1f} | {time.process_time() - began:.0f} |", flush=True)
    if len(differences) > 1:
        print(f"\ndifference {', '.join(said(differences))}")


if __name__ == "__main__":
    main()
