"""Views of a whole batch in torch, for small images of one size: every parameter is drawn per image.

Cropping and resizing are two small matrix products per image: row i of a matrix holds the weights with which output
pixel i is blended from the input's pixels. The filter is a triangle, widened where the crop shrinks; Pillow and
torchvision call it antialiased bilinear. Mirroring reverses the matrix of the columns.

Shape legend: B images, H W input side, S output side, C channels.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.pretrain.views.draws import Colours, draw_colours, draw_view
from stages.pretrain.views.settings import ViewSettings

LUMA = (0.299, 0.587, 0.114)


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
    draws = draw_view(len(images), images.shape[1], images.shape[2], settings, rng)
    x = images.to(device, non_blocking=True).float().div_(255.0)
    mirrored = None if draws.mirrored is None else draws.mirrored.to(device, non_blocking=True)
    x = resized_crops(x, draws.boxes.to(device, non_blocking=True), settings.size, mirrored)
    if draws.colours is not None:
        x = changed_colours(x, draws.colours)
    if draws.grey is not None:
        x = torch.where(draws.grey.to(device, non_blocking=True).view(-1, 1, 1, 1), luma(x).expand_as(x), x)
    if draws.blurred is not None:
        x = blur_some(x, draws.blurred, draws.sigma, settings.blur_kernel)
    if draws.solarized is not None:
        x = torch.where(draws.solarized.to(device, non_blocking=True).view(-1, 1, 1, 1) & (x >= 0.5), 1.0 - x, x)
    return normalise(x, settings)


def normalise(x: Tensor, settings: ViewSettings) -> Tensor:
    """(B, C, S, S) in [0, 1] -> (x - mean) / std, channels last in memory."""
    mean = torch.tensor(settings.mean).to(x.device, non_blocking=True).view(1, -1, 1, 1)
    std = torch.tensor(settings.std).to(x.device, non_blocking=True).view(1, -1, 1, 1)
    return x.sub(mean).div_(std).contiguous(memory_format=torch.channels_last)


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
    """Draw SimCLR's colour distortion and apply it in place; see `draw_colours` and `changed_colours`."""
    return changed_colours(x, draw_colours(len(x), x.shape[1], factors, saturation, hue, rng))


def changed_colours(x: Tensor, colours: Colours) -> Tensor:
    """Apply SimCLR's colour distortion in place, clipped after each change.

    Args:
        x: (B, C, S, S) in [0, 1].
        colours: what was drawn for each image.

    Returns:
        `x`.
    """
    kinds = colours.order.shape[1]
    for turn in range(kinds):
        for kind, change in enumerate((_brightness, _contrast, _saturation, turned_hue)[:kinds]):
            chosen = colours.chosen(turn, kind)
            if len(chosen):
                rows = chosen.to(x.device, non_blocking=True)
                amount = colours.factor[chosen, kind].to(x.device, non_blocking=True).view(-1, 1, 1, 1)
                x.index_copy_(0, rows, change(x[rows], amount).clamp_(0.0, 1.0))
    return x


def luma(x: Tensor) -> Tensor:
    """Compute the brightness that an eye sees: (B, C, S, S) -> (B, 1, S, S)."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    return (x * torch.tensor(LUMA).to(x.device, non_blocking=True).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


# Each change works in place on a copy of its images: fresh memory for every term costs more than the arithmetic.
def _brightness(x: Tensor, factor: Tensor) -> Tensor:
    return x.mul_(factor)


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    mean = luma(x).mean(dim=(2, 3), keepdim=True)
    return x.sub_(mean).mul_(factor).add_(mean)


def _saturation(x: Tensor, factor: Tensor) -> Tensor:
    grey = luma(x)
    return x.sub_(grey).mul_(factor).add_(grey)


def turned_hue(x: Tensor, turns: Tensor) -> Tensor:
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
    shift = _hexcone(x.device, x.dtype)
    position = shift + hue
    position.sub_(position.div(6.0).floor_().mul_(6.0))  # the remainder, exact in this range and ten times faster
    trapezoid = torch.minimum(position, 4.0 - position, out=position).clamp_(0.0, 1.0)
    return torch.sub(value, trapezoid.mul_(chroma), out=trapezoid)


@lru_cache(maxsize=8)
def _hexcone(device: torch.device, kind: torch.dtype) -> Tensor:
    """Return the n of red, green and blue, once for each device: sending it there takes longer than using it."""
    return torch.tensor([5.0, 3.0, 1.0]).to(device, kind).view(1, 3, 1, 1)


def blur_some(x: Tensor, chosen: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur the `chosen` (B,) bool images in place, each with its own sigma (B,) in pixels; return `x`."""
    rows = torch.nonzero(chosen)[:, 0]
    if not len(rows):
        return x
    there = rows.to(x.device, non_blocking=True)
    return x.index_copy_(0, there, blurred(x[there], sigma[rows].to(x.device, non_blocking=True), kernel))


def blurred(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur (B, C, S, S) images, each with its own sigma (B,) in pixels; `kernel` pixels wide, edges reflected."""
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
