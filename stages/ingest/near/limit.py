"""How near two images must be to be copies: as near as COPY, and nearer than unlike images of the data set come.

In photographs nothing comes as near as copies. Among handwritten digits, parts on one background or frames of one
camera many images do, and a fixed limit would call them copies. So the distances between images drawn from the data
set are looked at: near an image, the number of others within a distance r grows like r ** h, as it does in a space of
2 h dimensions (Levina and Bickel 2004 estimate dimensions this way), and two of its quantiles give h. The limit is
lowered until no more than one image in a thousand is expected to have a lookalike within it.

Copies among the drawn images do not disturb this: what lies within COPY is not counted.
"""

from __future__ import annotations

import math

import numpy as np

from stages.ingest.near.spectrum import HALF_STEPS, WEIGHTS, coefficients

COPY = 0.04  # compression at quality 50, half the size and back, a pixel's shift lie below; other photographs above
_EXPECTED = 1e-3  # images with a lookalike within the limit, as a share of all
_QUERIES, _DRAWN = 400, 2000
_NEAR, _FAR = 0.01, 0.05  # quantiles of the distances from one image
_RANK = 5  # the nearer quantile is at least this neighbour's: nearer ones say little
_STEPS = HALF_STEPS[::2]  # whole pixels


def copy_limit(drawn: np.ndarray, groups: np.ndarray, images: int) -> float:
    """Return the largest distance of copies.

    Args:
        drawn: (n, S, S) sketches of images that can be recognised, drawn without looking at them.
        groups: (n,) number of the group of each, -1 for none; distances within a group do not count.
        images: number of images in which copies are looked for.
    """
    drawn, groups = drawn[:_DRAWN], groups[:_DRAWN]
    rank = max(_RANK, round(_NEAR * len(drawn)))
    further = round(rank * _FAR / _NEAR)
    if further >= len(drawn):
        return COPY  # so few images that lookalikes by chance are not to be expected
    found = np.sort(_distances(drawn[:_QUERIES], drawn, groups), axis=1)
    near, far = (float(np.median(found[:, place - 1])) for place in (rank, further))
    if not near < far < math.inf:
        return COPY  # nearly all images are copies of each other
    growth = math.log(further / rank) / math.log(far / near)
    chance = near * (_EXPECTED * len(drawn) / (images * rank)) ** (1 / growth)
    return min(COPY, float(f"{chance:.3g}"))


def _distances(queries: np.ndarray, drawn: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return (q, n) distances at the best shift by whole pixels; infinite within COPY and within a group."""
    asked = _unit_rows(coefficients(queries))
    most = np.full((len(queries), len(drawn)), -1.0)
    for down in _STEPS:
        for right in _STEPS:
            np.maximum(most, asked @ _unit_rows(coefficients(drawn, down, right)).T, out=most)
    own = groups[: len(queries), None]
    apart = 1.0 - most
    apart[(own >= 0) & (own == groups[None, :])] = np.inf
    apart[apart <= COPY] = np.inf
    return apart


def _unit_rows(values: np.ndarray) -> np.ndarray:
    weighted = values * np.sqrt(WEIGHTS)
    return weighted / np.maximum(np.sqrt((weighted * weighted).sum(axis=1, keepdims=True)), 1.0)
