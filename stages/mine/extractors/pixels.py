"""`pixels`: principal components of the raw pixels.

The simplest features that a cluster method can have. Components are those of the covariance in float64, with
signs fixed (largest loading positive), so the same images give the same features.

Legend: n images, S their side, C channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.mine.extractor import Extractor

CHUNK = 8192  # images


class PixelParams(StrictModel):
    """Parameters of `pixels`."""

    components: Annotated[
        int,
        Field(ge=1, le=4096),
        meaning("This many principal components are kept, at most one per pixel.", "components"),
    ] = 32


class Pixels(Extractor):
    """Projects pixels on their leading principal components."""

    Params = PixelParams
    seeded = False
    params: PixelParams

    def features(self, images: np.ndarray, work: Path) -> np.ndarray:
        """(n, S, S, C) uint8 -> (n, min(components, S S C)) float32."""
        flat = images.reshape(len(images), -1)
        dimensions = flat.shape[1]
        mean, second = np.zeros(dimensions), np.zeros((dimensions, dimensions))
        for start in range(0, len(flat), CHUNK):
            block = flat[start : start + CHUNK].astype(np.float64) / 255.0
            mean += block.sum(axis=0)
            second += block.T @ block
        mean /= len(flat)
        _, vectors = np.linalg.eigh(second / len(flat) - np.outer(mean, mean))
        basis = vectors[:, ::-1][:, : self.params.components]
        basis = basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(basis.shape[1])])
        return np.concatenate(
            [
                ((flat[s : s + CHUNK].astype(np.float64) / 255.0 - mean) @ basis).astype(np.float32)
                for s in range(0, len(flat), CHUNK)
            ]
        )
