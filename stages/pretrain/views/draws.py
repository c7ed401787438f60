"""What is drawn at random for the views of a batch, before any pixel is touched: on the CPU, from one generator a view.

So a view has the same parameters wherever it is made, and the host may run ahead of a GPU.

Shape legend: B images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.pretrain.views.settings import BLUR_SIGMA, JITTER_PROBABILITY, ViewSettings

CROP_TRIES = 10  # as in torchvision: candidates before falling back to the whole image
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # columns of `Colours.factor`


@dataclass(frozen=True)
class Colours:
    """How the colours of each image change.

    Attributes:
        factor: (B, 4) factors of brightness, contrast and saturation, and turns of the hue.
        order: (B, 4) which of these comes first, second and so on; (B, 2) where there is neither saturation nor hue.
        applied: (B,) bool, the images whose colours change.
    """

    factor: Tensor
    order: Tensor
    applied: Tensor

    def chosen(self, turn: int, kind: int) -> Tensor:
        """Return the images whose change number `turn` is of this kind: positions, int64."""
        return torch.nonzero(self.applied & (self.order[:, turn] == kind))[:, 0]


@dataclass(frozen=True)
class Draws:
    """Everything that is drawn for one view of B images; None where a change is off.

    Attributes:
        boxes: (B, 4) float: top, left, height, width of the crops in pixels.
        mirrored, grey, blurred, solarized: (B,) bool.
        sigma: (B,) of the blur, in pixels.
        colours: see there.
    """

    boxes: Tensor
    mirrored: Tensor | None
    colours: Colours | None
    grey: Tensor | None
    sigma: Tensor
    blurred: Tensor | None
    solarized: Tensor | None


def draw_view(
    count: int, height: int | Tensor, width: int | Tensor, settings: ViewSettings, rng: torch.Generator
) -> Draws:
    """Draw one view.

    Args:
        count: B.
        height, width: of the images in pixels; tensors (B,) where they differ.
        settings: the numbers of a view.
        rng: a CPU generator.
    """
    scale = (settings.crop_scale_min, settings.crop_scale_max)
    boxes = draw_crops(count, height, width, scale, settings.ratio, rng)
    mirrored = torch.rand(count, generator=rng) < 0.5 if settings.flip else None
    colours = None
    if settings.jitter > 0:
        colours = draw_colours(count, settings.channels, *settings.factors, settings.turn, rng)
    greys = settings.grey > 0 and settings.channels == 3
    grey = torch.rand(count, generator=rng) < settings.grey if greys else None
    sigma, blurred = torch.zeros(count), None
    if settings.blur_probability > 0:
        sigma.uniform_(*BLUR_SIGMA, generator=rng)
        blurred = torch.rand(count, generator=rng) < settings.blur_probability
    solarizes = settings.solarize_probability > 0
    solarized = torch.rand(count, generator=rng) < settings.solarize_probability if solarizes else None
    return Draws(boxes, mirrored, colours, grey, sigma, blurred, solarized)


def draw_crops(
    count: int,
    height: int | Tensor,
    width: int | Tensor,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: torch.Generator,
) -> Tensor:
    """Draw random resized crops as torchvision does: area uniform, aspect log-uniform, whole pixels.

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
    area = tall * wide * torch.empty(count, CROP_TRIES).uniform_(*scale, generator=rng)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(torch.empty(count, CROP_TRIES).uniform_(low, high, generator=rng))
    w, h = torch.round(torch.sqrt(area * aspect)), torch.round(torch.sqrt(area / aspect))
    fits = (w >= 1) & (h >= 1) & (w <= wide) & (h <= tall)
    first = torch.where(fits.any(1), fits.float().argmax(1), 0)  # the first candidate that fits; else the whole image
    w = torch.where(fits.any(1), w.gather(1, first[:, None])[:, 0], wide[:, 0])
    h = torch.where(fits.any(1), h.gather(1, first[:, None])[:, 0], tall[:, 0])
    top = torch.floor(torch.rand(count, generator=rng) * (tall[:, 0] - h + 1))
    left = torch.floor(torch.rand(count, generator=rng) * (wide[:, 0] - w + 1))
    return torch.stack([top, left, h, w], dim=1)


def draw_colours(
    count: int,
    channels: int,
    factors: tuple[float, float],
    saturation: tuple[float, float],
    hue: float,
    rng: torch.Generator,
) -> Colours:
    """Draw SimCLR's colour distortion: four changes, in an order of each image's own.

    Grey images and those of other bands than RGB change in brightness and contrast only.

    Args:
        count: B.
        channels: bands of the images.
        factors: limits of the factors of brightness and contrast.
        saturation: limits of the factor of saturation.
        hue: it turns by up to this share of a circle.
        rng: a CPU generator.
    """
    kinds = 4 if channels == 3 else 2  # only colours have saturation and hue, not grey or other bands
    factor = torch.empty(count, 4).uniform_(*factors, generator=rng)
    if saturation != factors:  # the same draws, at their own limits
        share = (factor[:, SATURATION] - factors[0]) / (factors[1] - factors[0])
        factor[:, SATURATION] = saturation[0] + share * (saturation[1] - saturation[0])
    factor[:, HUE] = torch.empty(count).uniform_(-hue, hue, generator=rng)
    order = torch.rand(count, kinds, generator=rng).argsort(1)
    return Colours(factor, order, torch.rand(count, generator=rng) < JITTER_PROBABILITY)
