"""How sure a label set is of each image: the confidences that can be had, and how well each tells right from wrong.

`own` is the miner's. `resamples` is the share of resamples in which an image stays with its cluster
(stages/mine/label_sets/resampling.py). `two_views` is how far two changed copies of the image agree: both are assigned
to the centres of the clusters, softly,

    p(k) = softmax over k of -|x - c_k|^2 / s,   s = mean squared distance of images to their own centre,

and confidence is 1 - TV = 1 - 1/2 sum over k |p1(k) - p2(k)|. After Ctrl-U (Zhang et al., "Robust Conditional Image
Generation via Uncertainty-Aware Reward Modeling", arXiv 2410.11236), which trusts a reward less where two noisy passes
disagree. The idea alone is taken, nothing of its diffusion models; the paper's measure is the divergence of Kullback
and Leibler, which has no bound.

Legend: n images, d dimensions, K clusters.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import softmax

from reprise.artifacts.embeddings import PASSES, read_embeddings, taps_in
from reprise.clustering.centres import means
from reprise.config.errors import MiningError
from reprise.measures.cluster_quality import auroc, right_by_majority

_NUMBERS = 2**20  # of a table of images and clusters that are held at once: 8 MiB


def refuse_without_passes(source: Path, on: str) -> None:
    """Refuse features that hold no changed copies of the images.

    Raises:
        MiningError: saying what makes them.
    """
    if missing := [name for name in PASSES if name not in taps_in(source)]:
        raise no_passes(on, f"{source} has no tap '{missing[0]}'")


def no_passes(on: str, found: str) -> MiningError:
    """Make the error of a label set that asks for two views and whose features have none."""
    run = on.startswith("embed/")
    return MiningError(
        "`confidence: two_views` needs features of two changed copies of each image",
        where="mining.*.confidence",
        found=found,
        fix="Set embed.two_passes to true."
        if run
        else "Mine on the embedding of a run (`on: embed/RUN`), or choose another confidence: extractors make none.",
    )


def agreement_of_passes(
    features: np.ndarray, clusters: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Compute 1 - total variation of both copies' soft assignments.

    Args:
        features: (n, d) of the images as they are.
        clusters: (n,) int64 from 0, -1 for none; at least one image has a cluster.
        first, second: (n, d) of the two changed copies.

    Returns:
        (n,) float32 in [0, 1].
    """
    known = clusters >= 0
    centres = means(np.ascontiguousarray(features[known], dtype=np.float32), clusters[known], int(clusters.max()) + 1)
    centres = centres.astype(np.float64)
    scale = float(((features[known] - centres[clusters[known]]) ** 2).sum(axis=1).mean()) or 1.0

    lengths = (centres**2).sum(axis=1)

    def assigned(x: np.ndarray) -> np.ndarray:
        x = x.astype(np.float64)
        squared = (x**2).sum(axis=1)[:, None] - 2 * x @ centres.T + lengths
        return softmax(-squared / scale, axis=1)

    distance, rows = np.empty(len(first)), max(1, _NUMBERS // len(centres))
    for start in range(0, len(first), rows):
        part = slice(start, start + rows)
        distance[part] = np.abs(assigned(first[part]) - assigned(second[part])).sum(axis=1) / 2
    return np.clip(1.0 - distance, 0.0, 1.0).astype(np.float32)


def two_views(source: Path, clusters: np.ndarray) -> np.ndarray:
    """Read both passes from an embedding, and return how far they agree on the clusters: (n,) float32."""
    plain, first, second = (read_embeddings(source, tap, split="train")[2] for tap in ("backbone", *PASSES))
    return agreement_of_passes(plain, clusters, first, second)


def areas(confidences: dict[str, np.ndarray], clusters: np.ndarray, classes: np.ndarray) -> dict[str, float | None]:
    """Compute the AUROC of each confidence: how well it ranks images of their cluster's commonest class above others.

    Args:
        confidences: name -> (n,).
        clusters, classes: (n,) int64, -1 for none; such images are left out.
    """
    known = (clusters >= 0) & (classes >= 0)
    right = right_by_majority(clusters, classes)[known]
    return {name: auroc(values[known], right) for name, values in confidences.items()}
