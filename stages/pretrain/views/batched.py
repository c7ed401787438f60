"""Views of a whole batch in torch, for small images of one size: every parameter is drawn per image.

Cropping and resizing are two small matrix products per image: row i of a matrix holds the weights with which output
pixel i is blended from the input's pixels. The filter is a triangle, widened where the crop shrinks; Pillow and
torchvision call it antialiased bilinear. Mirroring reverses the matrix of the columns.

Shape legend: B images, H W input side, S output side, C channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.pretrain.views.settings import BLUR_SIGMA, JITTER_PROBABILITY, ViewSettings

CROP_TRIES = 10  # as in torchvision: candidates before falling back to the whole image
_LUMA = (0.299, 0.587, 0.114)


def batched_view(images: Tensor, settings: ViewSettings, rng: torch.Generator, device: str = "cpu") -> Tensor:
    """Make one random view of each image.

    Args:
        images: (B, H, W, C) uint8.
        settings: the numbers of a view.
        rng: a CPU generator, so that draws do not depend on the device. They are copied there without waiting
            (`non_blocking`), and the host may run ahead of a GPU.
        device: where the view is made.

    Returns:
        (B, C, S, S) float32, normalised.
    """
    x = images.to(device, non_blocking=True).float().div_(255.0)
    scale = (settings.crop_scale_min, settings.crop_scale_max)
    boxes = draw_crops(len(x), images.shape[1], images.shape[2], scale, settings.ratio, rng)
    boxes = boxes.to(device, non_blocking=True)
    mirrored = (torch.rand(len(x), generator=rng) < 0.5).to(device, non_blocking=True) if settings.flip else None
    x = resized_crops(x, boxes, settings.size, mirrored)
    if settings.jitter > 0:
        x = colour_jitter(x, *settings.factors, settings.turn, rng)
    if settings.grey > 0 and settings.channels == 3:
        chosen = (torch.rand(len(x), generator=rng) < settings.grey).to(device, non_blocking=True)
        x = torch.where(chosen.view(-1, 1, 1, 1), _luma(x).expand_as(x), x)
    if settings.blur_probability > 0:
        x = gaussian_blur(x, settings.blur_probability, settings.blur_kernel, rng)
    if settings.solarize_probability > 0:
        chosen = (torch.rand(len(x), generator=rng) < settings.solarize_probability).to(device, non_blocking=True)
        x = torch.where(chosen.view(-1, 1, 1, 1) & (x >= 0.5), 1.0 - x, x)
    return normalise(x, settings)


def normalise(x: Tensor, settings: ViewSettings) -> Tensor:
    """(B, C, S, S) in [0, 1] -> (x - mean) / std, channels last in memory."""
    mean = torch.tensor(settings.mean).to(x.device, non_blocking=True).view(1, -1, 1, 1)
    std = torch.tensor(settings.std).to(x.device, non_blocking=True).view(1, -1, 1, 1)
    return x.sub(mean).div_(std).contiguous(memory_format=torch.channels_last)


def draw_crops(
    count: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: torch.Generator,
) -> Tensor:
    """Draw random resized crops as torchvision does: area uniform, aspect log-uniform, whole pixels.

    Args:
        count: crops.
        height, width: of the images, in pixels.
        scale: limits of the crop's area, as shares of the image's.
        ratio: limits of the crop's width divided by its height.
        rng: a CPU generator.

    Returns:
        (count, 4) float: top, left, height, width in pixels.
    """
    area = height * width * torch.empty(count, CROP_TRIES).uniform_(*scale, generator=rng)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(torch.empty(count, CROP_TRIES).uniform_(low, high, generator=rng))
    w, h = torch.round(torch.sqrt(area * aspect)), torch.round(torch.sqrt(area / aspect))
    fits = (w >= 1) & (h >= 1) & (w <= width) & (h <= height)
    first = torch.where(fits.any(1), fits.float().argmax(1), 0)  # the first candidate that fits; else the whole image
    w = torch.where(fits.any(1), w.gather(1, first[:, None])[:, 0], float(width))
    h = torch.where(fits.any(1), h.gather(1, first[:, None])[:, 0], float(height))
    top = torch.floor(torch.rand(count, generator=rng) * (height - h + 1))
    left = torch.floor(torch.rand(count, generator=rng) * (width - w + 1))
    return torch.stack([top, left, h, w], dim=1)


def resize_weights(start: Tensor, length: Tensor, size_in: int, size_out: int) -> Tensor:
    """Compute the weights of an antialiased bilinear resize of [start, start + length) to `size_out` pixels.

    Args:
        start, length: (B,) of the crop along one axis, in pixels.
        size_in, size_out: pixels of the input and the output along that axis.

    Returns:
        (B, size_out, size_in); rows sum to 1, weights outside the crop are 0.
    """
    scale = (length / size_out).view(-1, 1, 1)
    out = torch.arange(size_out, device=start.device, dtype=torch.float32).view(1, -1, 1)
    pixel = torch.arange(size_in, device=start.device, dtype=torch.float32).view(1, 1, -1)
    centre = start.view(-1, 1, 1) + (out + 0.5) * scale
    weight = F.relu(1.0 - torch.abs(pixel + 0.5 - centre) / scale.clamp(min=1.0))
    inside = (pixel >= start.view(-1, 1, 1)) & (pixel < (start + length).view(-1, 1, 1))
    weight = weight * inside
    return weight / weight.sum(dim=2, keepdim=True)


def resized_crops(x: Tensor, boxes: Tensor, size: int, mirrored: Tensor | None = None) -> Tensor:
    """Cut and resize every image.

    Args:
        x: (B, H, W, C).
        boxes: (B, 4) top, left, height, width in pixels.
        size: S, side of the output in pixels.
        mirrored: (B,) bool, which images are mirrored left to right after resizing.

    Returns:
        (B, C, S, S).
    """
    count, height, width, channels = x.shape
    rows = resize_weights(boxes[:, 0], boxes[:, 2], height, size)
    columns = resize_weights(boxes[:, 1], boxes[:, 3], width, size)
    if mirrored is not None:
        columns = torch.where(mirrored.view(-1, 1, 1), columns.flip(1), columns)
    across = rows[:, None] @ x.permute(0, 3, 1, 2)
    # One product an image, all channels at once: broadcasting would copy the weights for each channel.
    return torch.bmm(across.reshape(count, -1, width), columns.transpose(1, 2)).view(count, channels, size, size)


def colour_jitter(
    x: Tensor, factors: tuple[float, float], saturation: tuple[float, float], hue: float, rng: torch.Generator
) -> Tensor:
    """Apply SimCLR's colour distortion in place: four changes, in an order of each image's own, clipped after each.

    Grey images and those of other bands than RGB change in brightness and contrast only.

    Args:
        x: (B, C, S, S) in [0, 1].
        factors: limits of the factors of brightness and contrast.
        saturation: limits of the factor of saturation.
        hue: it turns by up to this share of a circle.
        rng: a CPU generator.

    Returns:
        `x`.
    """
    count = len(x)
    kinds = 4 if x.shape[1] == 3 else 2  # only colours have saturation and hue, not grey or other bands
    factor = torch.empty(count, 4).uniform_(*factors, generator=rng)
    if saturation != factors:  # the same draws, at their own limits
        share = (factor[:, 2] - factors[0]) / (factors[1] - factors[0])
        factor[:, 2] = saturation[0] + share * (saturation[1] - saturation[0])
    factor[:, 3] = torch.empty(count).uniform_(-hue, hue, generator=rng)
    order = torch.rand(count, kinds, generator=rng).argsort(1)
    applied = torch.rand(count, generator=rng) < JITTER_PROBABILITY
    for turn in range(kinds):
        for kind, change in enumerate((_brightness, _contrast, _saturation, _hue)[:kinds]):
            chosen = torch.nonzero(applied & (order[:, turn] == kind))[:, 0]
            if len(chosen):
                rows = chosen.to(x.device, non_blocking=True)
                amount = factor[chosen, kind].to(x.device, non_blocking=True).view(-1, 1, 1, 1)
                x.index_copy_(0, rows, change(x[rows], amount).clamp_(0.0, 1.0))
    return x


def _luma(x: Tensor) -> Tensor:
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    return (x * torch.tensor(_LUMA).to(x.device, non_blocking=True).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


# Each change works in place on a copy of its images: fresh memory for every term costs more than the arithmetic.
def _brightness(x: Tensor, factor: Tensor) -> Tensor:
    return x.mul_(factor)


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    mean = _luma(x).mean(dim=(2, 3), keepdim=True)
    return x.sub_(mean).mul_(factor).add_(mean)


def _saturation(x: Tensor, factor: Tensor) -> Tensor:
    grey = _luma(x)
    return x.sub_(grey).mul_(factor).add_(grey)


def _hue(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate the hue by `turns` of a full circle, through HSV."""
    value = x.amax(dim=1, keepdim=True)
    chroma = value - x.amin(dim=1, keepdim=True)
    safe = chroma.masked_fill(chroma == 0, 1.0)
    red, green, blue = x.split(1, dim=1)
    hue = torch.where(
        value == red,
        (green - blue).div_(safe),
        torch.where(value == green, (blue - red).div_(safe).add_(2.0), (red - green).div_(safe).add_(4.0)),
    )
    hue = hue.div_(6.0).add_(turns).mul_(6.0)
    # f(n) of the HSV hexcone: value minus chroma times a trapezoid of the hue
    shift = torch.tensor([5.0, 3.0, 1.0]).to(x.device, non_blocking=True).view(1, 3, 1, 1)
    position = shift + hue
    position.sub_(position.div(6.0).floor_().mul_(6.0))  # the remainder, exact in this range and ten times faster
    trapezoid = torch.minimum(position, 4.0 - position, out=position).clamp_(0.0, 1.0)
    return torch.sub(value, trapezoid.mul_(chroma), out=trapezoid)


def gaussian_blur(x: Tensor, probability: float, kernel: int, rng: torch.Generator) -> Tensor:
    """Blur each image in place with some probability, sigma uniform in [0.1, 2] pixels, edges reflected; return `x`."""
    sigma = torch.empty(len(x)).uniform_(*BLUR_SIGMA, generator=rng)
    chosen = torch.nonzero(torch.rand(len(x), generator=rng) < probability)[:, 0]
    if not len(chosen):
        return x
    rows = chosen.to(x.device, non_blocking=True)
    return x.index_copy_(0, rows, blurred(x[rows], sigma[chosen].to(x.device, non_blocking=True), kernel))


def blurred(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur (B, C, S, S) images, each with its own sigma (B,) in pixels; the Gaussian is `kernel` pixels wide."""
    offsets = torch.arange(kernel, device=x.device) - kernel // 2
    weight = torch.exp(-(offsets**2) / (2.0 * sigma[:, None] ** 2))
    weight = weight / weight.sum(dim=1, keepdim=True)
    margin = kernel // 2
    for dim, padding in ((2, (0, 0, margin, margin)), (3, (margin, margin, 0, 0))):
        wider, side = F.pad(x, padding, mode="reflect"), x.shape[dim]
        x = torch.zeros_like(x)
        for tap in range(kernel):
            x.addcmul_(wider.narrow(dim, tap, side), weight[:, tap].view(-1, 1, 1, 1))
    return x
