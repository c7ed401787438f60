"""How often images of one cluster meet in a batch, by order of the batches, number of clusters and imbalance.

    python benchmarks/training/conflicts.py [--images 50000] [--batch 256] [--repeats 5] [--json FILE]

Cluster sizes are drawn from a log-normal distribution (sigma 0: equal). `share` is the share of images that meet one
of their own cluster in an epoch; `possible` says whether no meeting at all is possible (largest cluster at most m).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from reprise.reading.order import batch_count, conflicts, guided_batches, random_batches, rank_batches


def clusters_of(images: int, count: int, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """(images,) cluster numbers with log-normal sizes."""
    weights = rng.lognormal(0.0, sigma, count)
    sizes = np.floor(weights / weights.sum() * images).astype(int)
    sizes[: images - sizes.sum()] += 1
    return np.repeat(np.arange(count), sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    m = batch_count(arguments.images, arguments.batch)
    rows = []
    print(
        f"{arguments.images} images, batch {arguments.batch}, m = {m} batches; {arguments.repeats} draws: mean [range]"
    )
    print(f"{'K':>6} {'sigma':>6} {'largest':>8} {'possible':>9}   share affected: random, rank (published), guided")
    for count in (arguments.batch // 4, arguments.batch, 3 * arguments.batch, 4 * arguments.batch):
        for sigma in (0.0, 0.3, 1.0):
            shares: dict[str, list[float]] = {"random": [], "rank": [], "guided": []}
            largest, possible = [], []
            for repeat in range(arguments.repeats):
                rng = np.random.default_rng(repeat)
                clusters = clusters_of(arguments.images, count, sigma, rng)
                largest.append(int(np.bincount(clusters).max()))
                possible.append(largest[-1] <= m)
                shares["random"].append(
                    conflicts(clusters, random_batches(len(clusters), arguments.batch, rng)).share_affected
                )
                shares["rank"].append(conflicts(clusters, rank_batches(clusters, arguments.batch, rng)).share_affected)
                shares["guided"].append(
                    conflicts(clusters, guided_batches(clusters, arguments.batch, rng)).share_affected
                )
            rows.append({"clusters": count, "sigma": sigma, "largest": largest, "possible": possible, "shares": shares})
            text = "   ".join(f"{np.mean(v):.3f} [{min(v):.3f}, {max(v):.3f}]" for v in shares.values())
            print(f"{count:>6} {sigma:>6} {int(np.mean(largest)):>8} {sum(possible):>5} of {len(possible)}   {text}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
