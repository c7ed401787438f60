"""`crop`: a random part of the image, resized to a square.

Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015; as torchvision's RandomResizedCrop draws it.
Candidates of a random area and aspect are drawn until one fits into the image, ten at most. Where none fits, the whole
image is seen.

Checked by: tests/stages/pretrain/views/test_views.py; tests/stages/pretrain/views/test_view_parameters.py (against
Pillow, and the distribution of both forms).

Shape legend: B images, T tries.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.change import Cut, CutParams, Drawn, Frame

TRIES = 10  # as in torchvision
ASPECT = 4 / 3  # SimCLR, appendix A
Area = Annotated[float, Field(gt=0, le=1)]


class CropParams(CutParams):
    """Parameters of `crop`."""

    scale_min: Annotated[Area, meaning("The smallest crop covers this share of the image's area.")] = 0.08
    scale_max: Annotated[Area, meaning("The largest crop covers this share of the image's area.")] = 1.0
    aspect: Annotated[
        float, Field(ge=1, le=10), meaning("Crops are at most this many times as wide as high, or as high as wide.")
    ] = ASPECT

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min, {self.scale_min:g}, is above scale_max, {self.scale_max:g}")
        return self


class Crop(Cut):
    """Random resized crops."""

    Params = CropParams
    params: CropParams

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw whole pixels: area uniform, aspect log-uniform, place uniform."""
        scale = (self.params.scale_min, self.params.scale_max)
        return {"boxes": draw_boxes(frame.count, frame.height, frame.width, scale, self.ratio, rng)}

    @property
    def smallest_area(self) -> float:
        """Share of an image's area that the smallest box covers."""
        return self.params.scale_min

    @property
    def ratio(self) -> tuple[float, float]:
        """Limits of a crop's width divided by its height."""
        return 1.0 / self.params.aspect, self.params.aspect

    def transform(self, frame: Frame) -> Any:
        """Crop by the filter of the batched form and of evaluation; albumentations has no such one."""
        import albumentations as A
        import numpy as np

        from reprise.media.image.transform import resize

        class AntialiasedCrop(A.RandomResizedCrop):
            """Random resized crops with an antialiased bilinear filter."""

            def apply(self, img: np.ndarray, crop_coords: tuple[int, int, int, int], **params: Any) -> np.ndarray:
                left, top, right, bottom = crop_coords
                cut = np.ascontiguousarray(img[top:bottom, left:right])
                return resize(cut if cut.ndim == 3 else cut[:, :, None], frame.size, frame.size)

        scale = (self.params.scale_min, self.params.scale_max)
        return AntialiasedCrop((frame.size, frame.size), scale=scale, ratio=self.ratio)

    def drawn_by(self, params: dict[str, Any], frame: Frame) -> dict[str, Any]:
        """Turn corners into a box."""
        left, top, right, bottom = params["crop_coords"]
        return {"boxes": [float(top), float(left), float(bottom - top), float(right - left)]}


def draw_boxes(
    count: int,
    height: int | Tensor,
    width: int | Tensor,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: torch.Generator,
) -> Tensor:
    """Draw random resized crops.

    Args:
        count: crops.
        height, width: of the images, in pixels; tensors (count,) where they differ.
        scale: limits of the crop's area, as shares of the image's.
        ratio: limits of the crop's width divided by its height.
        rng: a CPU generator.

    Returns:
        (count, 4) float: top, left, height, width in pixels.
    """
    tall, wide = (torch.as_tensor(side, dtype=torch.float32).reshape(-1, 1) for side in (height, width))
    area = tall * wide * torch.empty(count, TRIES).uniform_(*scale, generator=rng)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(torch.empty(count, TRIES).uniform_(low, high, generator=rng))
    w, h = torch.round(torch.sqrt(area * aspect)), torch.round(torch.sqrt(area / aspect))
    fits = (w >= 1) & (h >= 1) & (w <= wide) & (h <= tall)
    first = torch.where(fits.any(1), fits.float().argmax(1), 0)  # the first candidate that fits; else the whole image
    w = torch.where(fits.any(1), w.gather(1, first[:, None])[:, 0], wide[:, 0])
    h = torch.where(fits.any(1), h.gather(1, first[:, None])[:, 0], tall[:, 0])
    top = torch.floor(torch.rand(count, generator=rng) * (tall[:, 0] - h + 1))
    left = torch.floor(torch.rand(count, generator=rng) * (wide[:, 0] - w + 1))
    return torch.stack([top, left, h, w], dim=1)
