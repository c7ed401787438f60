"""`frame_matching`: images of one frame matched with those of a later frame of the same group, one to one. Pairs.

Source: ISR, "Identity-Seeking Self-Supervised Representation Learning for Generalizable Person Re-identification",
ICCV 2023. Authors' code: dcp15/ISR_ICCV2023_Oral holds inference only.

Idea: crops of two frames that lie a little apart show mostly the same things; the matching of the greatest total
similarity (Hungarian method) says which is which. The cost grows with the number of frame pairs: linear in the data.

Weights: p is the softmax, over the candidates of the other frame, of similarity / temperature, the mean of both
directions; a pair weighs p ** power. Deviations: the paper's exact weight could not be verified, p ** power stands in
for it; pairs below `threshold` are dropped, so that what left the scene is not forced onto something else.

Groups come from the manifest, the number of a frame from the image's path. Images get no cluster.

Legend: n images, d dimensions, p pairs.

Checked by: tests/stages/mine/test_miners.py; docs/measurements/relations.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax

from reprise.config.params import StrictModel, meaning
from reprise.measures.unit_vectors import unit
from stages.mine.frames import FRAME, frames_of, number_pattern
from stages.mine.miner import Mined, Miner, Pairs, check_features


class MatchingParams(StrictModel):
    """Parameters of `frame_matching`."""

    gap: Annotated[int, Field(ge=1, le=100_000), meaning("Frames that lie this far apart are matched.", "frames")] = 1
    threshold: Annotated[float, Field(ge=-1, le=1), meaning("Pairs with a lower cosine similarity are dropped.")] = 0.5
    temperature: Annotated[
        float,
        Field(gt=0, le=10),
        meaning("Similarities are divided by this temperature before the softmax that weighs a pair."),
    ] = 0.1
    power: Annotated[float, Field(ge=0, le=10), meaning("A pair weighs its probability to this power.")] = 1.0
    frame: Annotated[
        str,
        meaning("The first group of this regular expression, found in an image's path, is the number of its frame."),
    ] = FRAME

    @field_validator("frame")
    @classmethod
    def _an_expression(cls, value: str) -> str:
        return number_pattern(value, "frame")


class FrameMatching(Miner):
    """Bipartite matching between frames."""

    Params = MatchingParams
    makes_pairs = True
    params: MatchingParams

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Match (n, d) features.

        Raises:
            MiningError: no groups, paths without frame numbers, constant features.
        """
        check_features(features, "mining")
        x = unit(features, np.float32)
        rows, weights = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
        for frames in frames_of(self.images, self.params.frame, "mining").values():
            for here, there in zip(frames, frames[self.params.gap :], strict=False):
                pair, weight = self.matched(x[here], x[there])
                rows.append(np.stack([here[pair[:, 0]], there[pair[:, 1]]], axis=1))
                weights.append(weight)
        found = np.concatenate(rows)
        pairs = Pairs(
            found, np.concatenate(weights), np.full(len(found), "matched", dtype=object), np.ones(len(found), np.int64)
        )
        return Mined(np.full(len(features), -1, dtype=np.int64), pairs=pairs)

    def matched(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Match two frames one to one: pairs (p, 2) of their rows, and the weights (p,) float32.

        Args:
            a: (images, d) features of length one of a frame.
            b: the same of the other frame.
        """
        similarity = a.astype(np.float64) @ b.T.astype(np.float64)
        first, second = linear_sum_assignment(similarity, maximize=True)
        sure = similarity[first, second] >= self.params.threshold
        first, second = first[sure], second[sure]
        scaled = similarity / self.params.temperature
        probability = (softmax(scaled, axis=1)[first, second] + softmax(scaled, axis=0)[first, second]) / 2
        weight = np.clip(probability**self.params.power, 0.0, 1.0).astype(np.float32)
        return np.stack([first, second], axis=1), weight
