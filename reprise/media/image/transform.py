"""Pixels -> pixels: channels, scale, crop, rotation, blur. Shapes: (h, w, c) uint8, any number of bands c."""

from __future__ import annotations

import numpy as np

TRIANGLE = "bilinear"  # the filter of all views and of evaluation: an antialiased triangle
INTERPOLATIONS = {"nearest": "NEAREST", TRIANGLE: "BILINEAR", "bicubic": "BICUBIC", "lanczos": "LANCZOS"}
CROP_MODES = ("center", "squash")  # how a picture that is no square becomes one; see `resize_to_square`
_LONGEST = 32  # times the shorter side; `resize_to_square` cuts off what lies beyond before it scales, not after


Extent = tuple[float, float]  # height and width, in pixels


def as_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Bring grey (h, w) or bands (h, w, c) uint8 to (h, w, channels) uint8.

    Args:
        pixels: decoded image.
        channels: 1 takes the luma of RGB, 3 repeats grey; all else is the number of bands that the image has.
    """
    import cv2

    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], channels, axis=2)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None] if channels == 1 != pixels.shape[2] else pixels


def resize_to_square(
    pixels: np.ndarray,
    size: int,
    crop_pct: float = 1.0,
    interpolation: str = TRIANGLE,
    crop_mode: str = "center",
    extent: Extent | None = None,
) -> np.ndarray:
    """Scale the shorter side and cut out the centre, as a network sees an image when it is evaluated.

    Of strips longer than 32 times their width, only the central part is scaled: scaled whole, a strip of one pixel by
    a million would take gigabytes.

    Args:
        pixels: (h, w, c) uint8.
        size: side of the result in pixels.
        crop_pct: the shorter side is scaled to floor(size / crop_pct), so that this share of it is kept; 1 keeps all.
        interpolation: a key of INTERPOLATIONS.
        crop_mode: `center` keeps the aspect and cuts the longer side; `squash` scales each side on its own.
        extent: as for `resize`.

    Returns:
        (size, size, c) uint8.
    """
    height, width = extent or pixels.shape[:2]
    wanted = int(size / crop_pct)  # rounded down, as timm does
    if (height, width) == (wanted, wanted):
        return crop_centre(pixels, size) if wanted > size else pixels
    if crop_mode == "squash":
        return crop_centre(resize(pixels, wanted, wanted, interpolation, extent), size)
    if max(height, width) > _LONGEST * min(height, width):
        height, width = pixels.shape[:2]
        longest = _LONGEST * min(height, width)
        top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
        pixels, extent = pixels[top : top + longest, left : left + longest], None
        height, width = pixels.shape[:2]
    return crop_centre(resize(pixels, *_covering_size(width, height, wanted), interpolation, extent), size)


def resize(
    pixels: np.ndarray, width: int, height: int, interpolation: str = TRIANGLE, extent: Extent | None = None
) -> np.ndarray:
    """Scale to (height, width, c) with an antialiased filter: where it shrinks, its kernel widens with the scale.

    Views of both kinds and evaluation scale with TRIANGLE, so that a network is evaluated on pixels like those that it
    was trained on. Pillow's convolution is used: it rounds to whole numbers after each of its two passes.

    Args:
        pixels: (h, w, c), c of any number; bands are scaled each on its own. Types other than uint8 are scaled as
            float32, and rounded at the end where they are integers.
        width, height: of the result in pixels.
        interpolation: a key of INTERPOLATIONS.
        extent: height and width of the picture in these pixels, where it ends within the last row or column; None where
            it fills them. A JPEG file of 375 rows that was decoded at half its sides has 188 rows, and fills 187.5.
    """
    from PIL import Image

    if pixels.shape[:2] == (height, width) and extent in (None, (height, width)):
        return pixels
    box = None if extent is None else (0.0, 0.0, float(extent[1]), float(extent[0]))
    kernel = Image.Resampling[INTERPOLATIONS[interpolation]]
    if pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize((width, height), kernel, box))
    kind = pixels.dtype
    numbers = pixels if kind == np.uint8 else pixels.astype(np.float32)
    layers = (Image.fromarray(numbers[:, :, band]) for band in range(pixels.shape[2]))
    scaled = np.stack([np.asarray(layer.resize((width, height), kernel, box)) for layer in layers], axis=2)
    if kind.kind in "ui" and kind != np.uint8:
        limits = np.iinfo(kind)
        scaled = np.clip(np.floor(scaled.astype(np.float64) + 0.5), limits.min, limits.max)
    return scaled.astype(kind, copy=False)


def crop_centre(pixels: np.ndarray, size: int) -> np.ndarray:
    """Cut the central (size, size, c) out of pixels whose sides are both at least `size`, where torchvision does."""
    top, left = (round((side - size) / 2) for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]


def rotate(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate a square image (s, s, c) about its centre, counter-clockwise; border pixels are repeated."""
    import cv2

    size = pixels.shape[0]
    middle = (size - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), degrees, 1.0)
    rotated = cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return rotated.reshape(pixels.shape)


def blur(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Blur with a Gaussian of standard deviation `sigma` in pixels."""
    import cv2

    return cv2.GaussianBlur(pixels, (0, 0), sigma).reshape(pixels.shape)


def correlate(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Weigh the surroundings of each pixel; the image is mirrored at its borders, which are not repeated.

    Args:
        x: (h, w, c) float64.
        kernel: (k, k) float64, k odd.
    """
    import cv2

    # A mirrored border cannot be longer than the image, so the image is continued as often as the kernel reaches.
    reach = kernel.shape[0] // 2
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    found = cv2.filter2D(padded, cv2.CV_64F, kernel).reshape(padded.shape)
    return found[reach : reach + x.shape[0], reach : reach + x.shape[1]]


def _covering_size(width: float, height: float, size: int) -> tuple[int, int]:
    """Return width and height after the shorter side is scaled to `size`; the other is rounded down, as torchvision's.

    Neither is below `size`.
    """
    shorter = min(width, height)
    return int(size * width / shorter), int(size * height / shorter)
