"""Pictures with the spectrum of photographs, and what happens to them on their way into a second file."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

Pixels = np.ndarray  # (h, w, 3) uint8


def photograph(seed: int, height: int = 40, width: int = 48) -> Pixels:
    """A picture whose amplitudes fall as one over the frequency, as those of photographs do."""
    rng = np.random.default_rng(seed)
    y, x = np.fft.fftfreq(height)[:, None] * height, np.fft.fftfreq(width)[None] * width
    frequency = np.maximum(np.hypot(y, x), 1)
    noise = np.fft.fft2(rng.normal(size=(3, height, width)) + rng.normal(size=(1, height, width)))
    layers = np.fft.ifft2(noise / frequency).real
    layers = (layers - layers.mean()) / layers.std()
    return as_bytes(128 + 45 * layers.transpose(1, 2, 0))


def as_bytes(values: np.ndarray) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def half_and_back(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    return resized(resized(pixels, height // 2, width // 2), height, width)


def moved(pixels: Pixels, down: int, right: int) -> Pixels:
    """Shift; the border is repeated."""
    edge = max(abs(down), abs(right))
    padded = np.pad(pixels, ((edge, edge), (edge, edge), (0, 0)), "edge")
    top, left = edge - down, edge - right
    return padded[top : top + pixels.shape[0], left : left + pixels.shape[1]]


def grey(pixels: Pixels) -> Pixels:
    return np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)


def cropped(pixels: Pixels, share: float) -> Pixels:
    height, width = pixels.shape[:2]
    y, x = round(share * height), round(share * width)
    return resized(np.ascontiguousarray(pixels[y : height - y, x : width - x]), height, width)


def noisy(pixels: Pixels, level: float = 6) -> Pixels:
    return as_bytes(pixels + np.random.default_rng(int(pixels.sum())).normal(0, level, pixels.shape))


def marked(pixels: Pixels) -> Pixels:
    """With a white mark of a ninth of a side in a corner."""
    copy = pixels.copy()
    copy[-pixels.shape[0] // 9 :, -pixels.shape[1] // 9 :] = 255
    return copy


FOUND: dict[str, Callable[[Pixels], Pixels]] = {  # what docs/reference/data-rules.md promises to find
    "a little brighter": lambda p: as_bytes(p * 1.05),
    "brighter": lambda p: as_bytes(p * 1.2),
    "darker": lambda p: as_bytes(p * 0.6),
    "JPEG, quality 70": lambda p: jpeg(p, 70),
    "JPEG, quality 50": lambda p: jpeg(p, 50),
    "a pixel to the right": lambda p: moved(p, 0, 1),
    "a pixel up": lambda p: moved(p, -1, 0),
    "a pixel down and left": lambda p: moved(p, 1, -1),
    "a pixel around the edge": lambda p: np.roll(p, 1, axis=1),
    "half the size and back": half_and_back,
    "another size": lambda p: resized(p, p.shape[0] * 7 // 5, p.shape[1] * 7 // 5),
    "grey": grey,
    "less contrast": lambda p: as_bytes((p - 128.0) * 0.7 + 128),
    "gamma": lambda p: as_bytes(255 * (p / 255.0) ** 0.8),
    "slightly blurred": lambda p: cv2.GaussianBlur(p, (0, 0), 0.8),
    "noise": noisy,
    "JPEG of a darker, shifted one": lambda p: jpeg(moved(as_bytes(p * 0.9), 0, 1), 70),
}
NOT_FOUND: dict[str, Callable[[Pixels], Pixels]] = {
    "mirrored": lambda p: p[:, ::-1].copy(),
    "inverted": lambda p: 255 - p,
    "turned by a quarter": lambda p: resized(np.rot90(p).copy(), *p.shape[:2]),
    "a crop of a seventh on each side": lambda p: cropped(p, 1 / 7),
}
