"""`transitive_pairs`: pairs of similar images and their consequences: if A is like B, and A' is A later, A' is like B.

Source: Wang, He, Gupta, "Transitive Invariance for Self-Supervised Visual Representation Learning", ICCV 2017.

Idea: two kinds of edges. `inter` joins images of different groups that are among each other's k nearest by cosine;
`intra` joins the first and the last frame of a group (a track). Their closure adds `closed` pairs: (A, B') and (A', B)
over two edges, (A', B') over three. They show changes that no augmentation makes.

Weights: an `inter` edge weighs its similarity cut to [0, 1], an `intra` edge 1, a closed pair the product along its
way. False edges multiply: `hops` lets the two kinds be judged apart, and mutual neighbours keep any image's edges to k
(head objects would dominate). Images without a group are a track of their own and have `inter` edges only.

Deviations: the paper's edges between objects come from a context-prediction network and clustering; here from whatever
features the label set names. Images of a group that are neither its first nor its last frame take no part.

Legend: n images, d dimensions, e edges.

Checked by: tests/stages/mine/test_miners.py; docs/measurements/relations.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from reprise.clustering.neighbour_graph import mutual, neighbours
from reprise.config.params import StrictModel, meaning
from reprise.measures.unit_vectors import unit
from stages.mine.frames import FRAME, frames_of
from stages.mine.miner import Mined, Miner, Pairs, check_features, refuse_fewer


class TransitiveParams(StrictModel):
    """Parameters of `transitive_pairs`."""

    neighbours: Annotated[
        int,
        Field(ge=1, le=1000),
        meaning(
            "Images of different groups are joined if each is among this many nearest neighbours of the other.",
            "neighbours",
        ),
    ] = 5
    threshold: Annotated[
        float, Field(ge=-1, le=1), meaning("Two images with a lower cosine similarity are not joined.")
    ] = 0.5
    frame: Annotated[
        str,
        meaning("The first group of this regular expression, found in an image's path, is the number of its frame."),
    ] = FRAME


class TransitivePairs(Miner):
    """Edges and their closure."""

    Params = TransitiveParams
    makes_pairs = True
    params: TransitiveParams

    @classmethod
    def refuse_images(cls, params: TransitiveParams, images: int, where: str = "mining.*") -> None:  # type: ignore[override]
        """Refuse fewer images than an image has neighbours, besides itself.

        Raises:
            MiningError: there are fewer.
        """
        refuse_fewer(images, params.neighbours + 1, f"{where}.neighbours + 1")

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Link (n, d) features.

        Raises:
            MiningError: no groups, paths without frame numbers, not more images than neighbours, constant features.
        """
        check_features(features, "mining")
        n = len(features)
        tracks = frames_of(self.images, self.params.frame, "mining")
        partner = np.full(n, -1, dtype=np.int64)  # the other end of the track
        track = -1 - np.arange(n)  # images without a group: each its own
        takes_part = np.ones(n, dtype=bool)
        for number, frames in enumerate(tracks.values()):
            everything = np.concatenate(frames)
            track[everything], takes_part[everything] = number, False
            first, last = int(frames[0][0]), int(frames[-1][0])
            takes_part[[first, last]] = True
            if len(frames) > 1:
                partner[first], partner[last] = last, first
        ends = np.flatnonzero(takes_part)
        self.refuse_images(self.params, len(ends))
        check_features(features[ends], "mining.*.neighbours + 1")
        edges, similarity = mutual(*neighbours(unit(features[ends], np.float32), self.params.neighbours))
        edges = ends[edges]
        kept = (similarity >= self.params.threshold) & (track[edges[:, 0]] != track[edges[:, 1]])
        edges, weight = edges[kept], np.clip(similarity[kept], 0.0, 1.0).astype(np.float32)
        pairs = closure(edges, weight, partner)
        return Mined(np.full(n, -1, dtype=np.int64), pairs=pairs)


def closure(edges: np.ndarray, weight: np.ndarray, partner: np.ndarray) -> Pairs:
    """List all pairs over at most three edges, each over its shortest path, of several the one of largest weight.

    Args:
        edges: (e, 2) inter edges.
        weight: (e,) of these.
        partner: (n,) the other end of each image's track, -1 for none.
    """
    best: dict[tuple[int, int], tuple[int, float, str]] = {}

    def offer(a: int, b: int, hops: int, sure: float, kind: str) -> None:
        if a < 0 or b < 0 or a == b:
            return
        pair = (min(a, b), max(a, b))
        known = best.get(pair)
        if known is None or (hops, -sure) < (known[0], -known[1]):
            best[pair] = (hops, sure, kind)

    for a, b in enumerate(partner.tolist()):
        offer(a, b, 1, 1.0, "intra")
    for (a, b), sure in zip(edges.tolist(), weight.tolist(), strict=True):
        offer(a, b, 1, sure, "inter")
        offer(int(partner[a]), b, 2, sure, "closed")
        offer(a, int(partner[b]), 2, sure, "closed")
        offer(int(partner[a]), int(partner[b]), 3, sure, "closed")
    order = sorted(best)
    return Pairs(
        np.array(order, dtype=np.int64).reshape(-1, 2),
        np.array([best[pair][1] for pair in order], dtype=np.float32),
        np.array([best[pair][2] for pair in order], dtype=object),
        np.array([best[pair][0] for pair in order], dtype=np.int64),
    )
