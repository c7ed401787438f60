"""The protocol of corruptions: one file a corruption in `stages/embed/shifts`, looked up by the file's name.

A corruption changes one square image as a network sees it. Its random numbers follow from the image's key and the name
of the corruption, so the changed image is the same in every run, in any batch and in any order; they do not follow
from the severity, so that a higher severity shows the same rain, only harder.

Source: Hendrycks and Dietterich 2019 (ImageNet-C, CIFAR-10-C). They publish one table of strengths for images of 32
pixels and one for 224. In between, strengths are interpolated here, linearly in the logarithm of the side.

Shapes: pixels (S, S, C) uint8 in and out, any number of bands C; inside, numbers on the scale 0..1.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from reprise.config.errors import EmbeddingError
from reprise.config.params import StrictModel

SMALL, LARGE = 32, 224  # sides, in pixels, for which strengths are published


class Corruption(ABC):
    """A change of images in five severities. The file's name is the corruption's name."""

    class Params(StrictModel):
        """Override with the corruption's own parameters, which a row of `shifts` sets in `options`."""

    def __init__(self, params: Any) -> None:
        self.params = params

    @abstractmethod
    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Change one image.

        Args:
            pixels: (S, S, C) uint8; it is not to be written to.
            severity: from 1 to 5.
            rng: the image's own random numbers.

        Returns:
            (S, S, C) uint8.
        """


def corrupted(corruption: Corruption, name: str, severity: int, pixels: np.ndarray, key: str) -> np.ndarray:
    """Apply a corruption to one image.

    Args:
        corruption: with its parameters.
        name: of the corruption.
        severity: from 1 to 5.
        pixels: (S, S, C) uint8.
        key: of the image.

    Raises:
        EmbeddingError: the corruption returns something else than an image of that size.
    """
    seed = hashlib.sha256(f"{key} {name}".encode("utf-8", "surrogatepass")).digest()
    rng = np.random.default_rng(int.from_bytes(seed[:8], "big"))
    changed = corruption.apply(pixels, severity, rng)
    if not isinstance(changed, np.ndarray) or changed.shape != pixels.shape or changed.dtype != np.uint8:
        found = f"{changed.dtype} {changed.shape}" if isinstance(changed, np.ndarray) else type(changed).__name__
        raise EmbeddingError(
            "a corruption must return an image of the size that it was given",
            where=f"shift {name}, severity {severity}",
            found=f"{found}, for uint8 {pixels.shape}",
            fix="Correct `apply` in the file of the corruption.",
        )
    return changed


def strength(small: Sequence[float], large: Sequence[float], severity: int, side: int) -> float:
    """Return the strength of a severity for images of a side.

    Args:
        small, large: the strength of each severity at 32 and at 224 pixels.
        severity: from 1 to 5.
        side: in pixels. Below 32 and above 224 the nearer table holds.
    """
    share = np.clip(np.log(side / SMALL) / np.log(LARGE / SMALL), 0.0, 1.0)
    return float(small[severity - 1] + share * (large[severity - 1] - small[severity - 1]))


def length(small: Sequence[float], large: Sequence[float], severity: int, side: int) -> float:
    """Return a strength that is a length in pixels: as `strength`, but in proportion beyond both ends."""
    beyond = min(1.0, side / SMALL) * max(1.0, side / LARGE)
    return strength(small, large, severity, side) * beyond


def as_unit(pixels: np.ndarray) -> np.ndarray:
    """Bring uint8 to float64 on the scale 0..1."""
    return pixels.astype(np.float64) / 255.0


def as_pixels(x: np.ndarray) -> np.ndarray:
    """Bring numbers on the scale 0..1 to uint8; what lies beyond is cut off."""
    return np.rint(np.clip(x, 0.0, 1.0) * 255.0).astype(np.uint8)


def sample(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Read an image between its pixels by bilinear interpolation; it is mirrored at its borders.

    Args:
        x: (S, S, C) float.
        rows, columns: positions of equal shape, in pixels from the centre of the first one.

    Returns:
        The shape of the positions, then C.
    """
    side = x.shape[0]
    below = [np.floor(position).astype(np.int64) for position in (rows, columns)]
    down, right = rows - below[0], columns - below[1]
    first, left = (_mirrored(index, side) for index in below)
    second, beside = (_mirrored(index + 1, side) for index in below)
    down, right = down[..., None], right[..., None]
    upper = x[first, left] * (1 - right) + x[first, beside] * right
    lower = x[second, left] * (1 - right) + x[second, beside] * right
    return upper * (1 - down) + lower * down


def sample_grid(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Read an image at every crossing of (r,) rows and (k,) columns, as `sample` does: (r, k, C)."""
    found = x
    for axis, positions in enumerate((rows, columns)):
        below = np.floor(positions).astype(np.int64)
        share = np.expand_dims(positions - below, tuple(i for i in range(3) if i != axis))
        side = x.shape[axis]
        nearer = np.take(found, _mirrored(below, side), axis)
        found = nearer * (1 - share) + np.take(found, _mirrored(below + 1, side), axis) * share
    return found


def spread(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Gather weighted points into a kernel, each onto the four pixels around it: (k, k) with sum 1, k odd.

    Args:
        x, y: (n,) distance from the centre in pixels.
        weights: (n,) of the points.
    """
    reach = int(np.ceil(max(np.abs(x).max(), np.abs(y).max()))) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    for right, down in ((0, 0), (0, 1), (1, 0), (1, 1)):
        part = np.abs(1 - right - (x - left)) * np.abs(1 - down - (y - top))
        np.add.at(kernel, (reach + top + down, reach + left + right), weights * part)
    return kernel / kernel.sum()


def _mirrored(index: np.ndarray, side: int) -> np.ndarray:
    """Bring positions beyond the borders back: the border pixel itself is not repeated."""
    period = max(1, 2 * (side - 1))
    inside = np.mod(index, period)
    return np.minimum(inside, period - inside)
