"""Pixels -> pixels: channels, scale, crop, rotation, blur. Shapes: (h, w, c) uint8 in and out, c = 1 or 3."""

from __future__ import annotations

import numpy as np

_LONGEST = 32  # times the shorter side; `resize_to_square` cuts off what lies beyond before it scales, not after


def as_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Bring grey (h, w) or RGB (h, w, 3) uint8 to (h, w, channels) uint8.

    Args:
        pixels: decoded image.
        channels: 1 takes the luma of RGB, 3 repeats grey.
    """
    import cv2

    if channels == 1:
        return (pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[:, :, None]
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def resize_to_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Scale the shorter side to `size` (area when shrinking, cubic when growing) and crop the centre.

    Of strips longer than 32 times their width, only the central part is scaled: scaled whole, a strip of one pixel by
    a million would take gigabytes.

    Args:
        pixels: (h, w, c) uint8.
        size: side in pixels.

    Returns:
        (size, size, c) uint8.
    """
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return pixels
    if max(height, width) > (longest := _LONGEST * min(height, width)):
        top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
        pixels = pixels[top : top + longest, left : left + longest]
        height, width = pixels.shape[:2]
    return crop_centre(resize(pixels, *_covering_size(width, height, size)), size)


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale to (height, width, c): area when shrinking, cubic when growing."""
    import cv2

    shrinks = width < pixels.shape[1] or height < pixels.shape[0]
    scaled = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return scaled.reshape(height, width, pixels.shape[2])


def crop_centre(pixels: np.ndarray, size: int) -> np.ndarray:
    """Cut the central (size, size, c) out of pixels whose sides are both at least `size`."""
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
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


def _covering_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height after the shorter side is scaled to `size`; rounding never leaves a side below it."""
    shorter = min(width, height)
    return max(size, round(width * size / shorter)), max(size, round(height * size / shorter))
