"""Changed copies of images: of a few one kind of change at a time, for probes of invariance; of all, two for miners.

The changes are those that self-supervised methods train on (SimCLR, appendix A) and those of Transforms-2D (Speicher et
al. 2024), at one fixed, moderate strength. The random numbers follow from the image's key and the name of the change,
so they are the same for every run, whatever the order of the images.

Shapes: pixels (S, S, C) uint8 in and out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from reprise.artifacts.manifest import scored_split
from reprise.artifacts.tables.columns import Keys
from reprise.media.image import transform
from reprise.reading.entry import in_threads

FILE = "augmented.parquet"
ORIGINAL, ALL = "original", "all"
LUMA = (0.299, 0.587, 0.114)
CROP_SIDE = 0.7  # share of the side that a crop keeps: half of the area
SHIFT = 0.15  # share of the side
DEGREES = 30.0
COLOUR = 0.4  # brightness, contrast and saturation change by factors in [1 - 0.4, 1 + 0.4]
BLUR_SIGMA = 0.06  # share of the side: two pixels at 32, about SimCLR's largest
NOISE_STD = 0.1  # of the range of values
ERASED_SIDE = 0.4  # share of the side

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def crop(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Crop a square with half of the area at a random place, and scale it back."""
    size = pixels.shape[0]
    side = max(1, round(size * CROP_SIDE))
    top, left = rng.integers(0, size - side + 1, 2)
    return transform.resize(np.ascontiguousarray(pixels[top : top + side, left : left + side]), size, size)


def flip(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exchange left and right."""
    return pixels[:, ::-1]


def shift(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move by up to 15 % of the side in each direction; border pixels are repeated."""
    size = pixels.shape[0]
    moved = np.rint(rng.uniform(-SHIFT, SHIFT, 2) * size).astype(int)
    rows, columns = (np.clip(np.arange(size) + m, 0, size - 1) for m in moved)
    return pixels[rows][:, columns]


def rotate(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotate by up to 30 degrees about the centre; border pixels are repeated."""
    return transform.rotate(pixels, float(rng.uniform(-DEGREES, DEGREES)))


def colour(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, then contrast, then saturation (of RGB), each by a factor in [0.6, 1.4]."""
    brightness, contrast, saturation = rng.uniform(1 - COLOUR, 1 + COLOUR, 3)
    x = _clipped(pixels * brightness).astype(np.float64)
    level = _luma(x).mean()
    x = _clipped(level + contrast * (x - level)).astype(np.float64)
    if pixels.shape[2] != 3:
        return x.astype(np.uint8)
    luma = _luma(x)[:, :, None]
    return _clipped(luma + saturation * (x - luma))


def grey(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put the luma into every channel; other bands than RGB have none and stay as they are."""
    if pixels.shape[2] != 3:
        return pixels
    return np.repeat(_clipped(_luma(pixels.astype(np.float64)))[:, :, None], pixels.shape[2], axis=2)


def blur(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur with a Gaussian whose standard deviation is 6 % of the side."""
    return transform.blur(pixels, pixels.shape[0] * BLUR_SIGMA)


def noise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise with a standard deviation of a tenth of the range."""
    return _clipped(pixels + rng.normal(0.0, NOISE_STD * 255, pixels.shape))


def erase(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Set a square of 40 % of the side to the mean colour of the image."""
    size = pixels.shape[0]
    side = max(1, round(size * ERASED_SIDE))
    top, left = rng.integers(0, size - side + 1, 2)
    changed = pixels.copy()
    changed[top : top + side, left : left + side] = np.rint(pixels.mean(axis=(0, 1)))
    return changed


def everything(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a view as SimCLR does: crop, flip half of the images, change the colour."""
    x = crop(pixels, rng)
    return colour(flip(x, rng) if rng.random() < 0.5 else x, rng)


CHANGES: dict[str, Change] = {
    "crop": crop,
    "flip": flip,
    "shift": shift,
    "rotate": rotate,
    "colour": colour,
    "grey": grey,
    "blur": blur,
    "noise": noise,
    "erase": erase,
    ALL: everything,
}


def changed(pixels: np.ndarray, name: str, key: str) -> np.ndarray:
    """Apply one change to one image.

    Args:
        pixels: (S, S, C) uint8.
        name: of the change, a key of CHANGES.
        key: of the image, from which the random numbers follow.
    """
    seed = int.from_bytes(hashlib.sha256(f"{key} {name}".encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return np.ascontiguousarray(CHANGES[name](pixels, np.random.default_rng(seed)))


class ChangedCopies:
    """Images of which every block is changed as it is read, for another pass through the network.

    Args:
        squares: (n, S, S, C) uint8.
        keys: (n,) of the images.
        number: of the pass, from 1: another one changes the images otherwise.
        threads: images changed at the same time.
    """

    def __init__(self, squares: np.ndarray, keys: Keys, number: int, threads: int) -> None:
        self.squares, self.keys, self.number, self.threads = squares, keys, number, threads

    def __len__(self) -> int:
        """Return n."""
        return len(self.squares)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return consecutive images, changed."""
        pixels = np.array(self.squares[rows])
        keys = self.keys[rows]

        def change(i: int) -> None:
            pixels[i] = changed(pixels[i], ALL, f"{keys[i]} pass {self.number}")

        in_threads(change, len(pixels), self.threads, 1)
        return pixels


def chosen_rows(keys: Keys, splits: np.ndarray, count: int) -> np.ndarray:
    """Choose up to `count` rows of the split that is scored (test, else val, else train) by the hash of their keys."""
    rows = np.flatnonzero(splits == scored_split(splits))
    ranked = sorted(rows, key=lambda i: hashlib.sha256(str(keys[i]).encode("utf-8", "surrogatepass")).digest())
    return np.array(sorted(ranked[:count]), dtype=np.int64)


def _luma(x: np.ndarray) -> np.ndarray:
    return x @ np.array(LUMA) if x.shape[2] == 3 else x.mean(axis=2)


def _clipped(x: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(x, 0, 255)).astype(np.uint8)
