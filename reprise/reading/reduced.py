"""Square images scaled down to a stated side, for what grows with the number of pixels and needs no detail."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from reprise.media.lookup import IMAGE, VOLUME, modality

REDUCED_SIDE = 32  # pixels: the side to which features that describe raw pixels reduce larger images by default
_CHUNK = 256  # images read at a time


def reduced(images: np.ndarray, side: int, threads: int = 1) -> np.ndarray:
    """Scale images down to (n, side, side, C) with the antialiased triangle; return smaller ones as they are.

    Args:
        images: (n, S, S, C) uint8, or cubes (n, S, S, S, C); they are read in slices.
        side: of the result in pixels, at most.
        threads: images scaled at the same time; the result does not depend on it.
    """
    if images.shape[1] <= side:
        return images
    media, n = modality(VOLUME if images.ndim == 5 else IMAGE), len(images)
    small = np.empty((n, *[side] * (images.ndim - 2), images.shape[-1]), np.uint8)

    def fill(start: int) -> None:
        for i, image in enumerate(np.asarray(images[start : start + _CHUNK]), start):
            small[i] = media.resize_to_square(image, side)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        for _ in pool.map(fill, range(0, n, _CHUNK)):
            pass
    return small
