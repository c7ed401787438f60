"""Views through albumentations, image by image: for large images and images of different sizes.

A batch is cut into chunks of fixed size, and each chunk has its own seed, so the result does not depend on the number
of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from reprise.media.image.transform import resize
from reprise.runtime.seeds import mix
from stages.pretrain.views.settings import BLUR_SIGMA, JITTER_PROBABILITY, ViewSettings

CHUNK = 16  # images that share a seed


class PerImageViews:
    """Random views of images of any size.

    Args:
        read: position of an image -> (H, W, C) uint8.
        settings: the numbers of a view.
        threads: how many transform images at the same time.
    """

    def __init__(self, read: Callable[[int], np.ndarray], settings: ViewSettings, threads: int) -> None:
        self.read, self.settings = read, settings
        self.pool = ThreadPoolExecutor(threads)
        cv2.setNumThreads(1)  # each of our threads would start OpenCV's own ones

    def __call__(self, rows: Sequence[int] | np.ndarray, *seed: int | str) -> Tensor:
        """Make one view of each image: (B, C, S, S) float32, normalised; a pure function of `rows` and `seed`."""
        chunks = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
        done = self.pool.map(self._chunk, chunks, [mix(*seed, number) % 2**32 for number in range(len(chunks))])
        x = torch.from_numpy(np.concatenate(list(done))).permute(0, 3, 1, 2).float().div_(255.0)
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (self.settings.mean, self.settings.std))
        return ((x - mean) / std).contiguous(memory_format=torch.channels_last)

    def _chunk(self, rows: Sequence[int] | np.ndarray, seed: int) -> np.ndarray:
        transform = build_transform(self.settings)
        transform.set_random_seed(seed)
        views = [np.asarray(transform(image=self.read(int(row)))["image"]) for row in rows]
        return np.stack([v if v.ndim == 3 else v[..., None] for v in views])


def band_jitter(span: tuple[float, float]):
    """Build the step that changes brightness and contrast of any number of bands, in random order.

    albumentations does so for grey and RGB only. The mean about which contrast changes is that of all bands.

    Args:
        span: smallest and largest factor of both.
    """
    import albumentations as A

    class BandJitter(A.ImageOnlyTransform):
        """Brightness and contrast of (H, W, C) uint8."""

        def get_params(self) -> dict[str, Any]:
            """Draw the two factors, and which change comes first."""
            draw = self.py_random
            return {"factors": (draw.uniform(*span), draw.uniform(*span)), "bright_first": draw.random() < 0.5}

        def apply(self, img: np.ndarray, factors: tuple[float, float], bright_first: bool, **params: Any) -> np.ndarray:
            """Change one image; after each change, values are cut off at black and white."""
            x = img.astype(np.float32)
            for brightens in (bright_first, not bright_first):
                if brightens:
                    x *= factors[0]
                else:
                    level = x.mean()
                    x = (x - level) * factors[1] + level
                x = np.clip(x, 0.0, 255.0)
            return np.floor(x + 0.5).astype(np.uint8)

    return BandJitter(p=JITTER_PROBABILITY)


def build_transform(settings: ViewSettings):
    """Build the albumentations pipeline of one view: (H, W, C) uint8 -> (S, S, C) uint8."""
    import albumentations as A

    class AntialiasedCrop(A.RandomResizedCrop):
        """Random resized crops by the filter of the batched path and of evaluation; albumentations has no such one."""

        def apply(self, img: np.ndarray, crop_coords: tuple[int, int, int, int], **params: Any) -> np.ndarray:
            left, top, right, bottom = crop_coords
            cut = np.ascontiguousarray(img[top:bottom, left:right])
            return resize(cut if cut.ndim == 3 else cut[:, :, None], settings.size, settings.size)

    side = settings.size
    scale = (settings.crop_scale_min, settings.crop_scale_max)
    steps: list[A.BasicTransform] = [AntialiasedCrop((side, side), scale=scale, ratio=settings.ratio)]
    if settings.flip:
        steps.append(A.HorizontalFlip(p=0.5))
    if settings.jitter > 0:
        span, saturation = settings.factors
        hue = (-settings.turn, settings.turn)
        if settings.channels != 3:
            saturation, hue = (1.0, 1.0), (0.0, 0.0)
        steps.append(
            A.ColorJitter(span, span, saturation, hue, p=JITTER_PROBABILITY)
            if settings.channels in (1, 3)
            else band_jitter(span)
        )
    if settings.grey > 0 and settings.channels == 3:
        steps.append(A.ToGray(p=settings.grey))
    if settings.blur_probability > 0:
        steps.append(
            A.GaussianBlur(
                blur_limit=(settings.blur_kernel, settings.blur_kernel),
                sigma_limit=BLUR_SIGMA,
                p=settings.blur_probability,
            )
        )
    if settings.solarize_probability > 0:
        steps.append(A.Solarize(threshold_range=(0.5, 0.5), p=settings.solarize_probability))
    return A.Compose(steps)
