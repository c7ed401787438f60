"""Views of a batch on a GPU, at every size and for images of different sizes.

The draws are those of the CPU (`draws.py`), and so is the result, up to rounding: 0.6 of a pixel value's 255 steps at
most where numbers are halves. What differs is the form. A GPU does one long operation on all images sooner than many
short ones on a few, and copies from the host only what was drawn. So all views of one size are made together;
brightness, contrast and saturation are one formula with numbers of each image's own; cropping and blurring are matrix
products.

Shape legend: B images, V views, N = V B, H W input side, S output side, C channels, P numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.pretrain.views.batched import LUMA, luma, turned_hue
from stages.pretrain.views.draws import BRIGHTNESS, CONTRAST, HUE, SATURATION, Colours, Draws, draw_view
from stages.pretrain.views.settings import ViewSettings

HALF_SIDE = 64  # pixels: larger views are made in half precision, whose steps are a sixteenth of a pixel's
_SCALED, _LUMA, _LEVEL = range(3)  # what each turn mixes: the pixel, its luma, the mean luma of the image


@dataclass(frozen=True)
class Recipe:
    """The draws of N views in the form that the GPU works with; on its way there.

    Attributes:
        boxes: (N, 4) float: top, left, height, width of the crops in pixels.
        mirrored, grey, solarized: (N,) float, 0 or 1; None where a change is off.
        mix: (turns, 3, N) float: what each image becomes in each turn: this times itself, its luma, its mean luma.
        hue: for each turn the (n,) rows whose hue turns, and the (n,) shares of a circle.
        blur: (n,) rows that are blurred, and the (n,) sigmas in pixels.
    """

    boxes: Tensor
    mirrored: Tensor | None
    grey: Tensor | None
    solarized: Tensor | None
    mix: Tensor | None
    hue: list[tuple[Tensor, Tensor]]
    blur: tuple[Tensor, Tensor] | None


def recipe(draws: list[Draws], device: str) -> Recipe:
    """Gather the draws of V views of the same images and send them to the device, in two copies.

    Args:
        draws: of each view; a change is off in all of them or counts as not drawn in those that lack it.
        device: where views are made.
    """
    count = len(draws[0].boxes)
    flags = [[getattr(d, name) for d in draws] for name in ("mirrored", "grey", "solarized")]
    changes = any(d.colours is not None for d in draws)
    colours = [d.colours or _unchanged(draws, count) for d in draws] if changes else []
    mix = _mixture(colours) if changes else None
    floats = [torch.cat([d.boxes for d in draws]).T]
    floats += [_flag(found, count)[None] for found in flags if any(x is not None for x in found)]
    turns = 0
    if mix is not None:
        turns = len(mix)
        floats.append(mix.flatten(0, 1))
    amounts: list[Tensor] = []
    rows: list[Tensor] = []
    if turns == 4:
        for turn in range(turns):
            chosen = [c.chosen(turn, HUE) for c in colours]
            rows.append(torch.cat([found + v * count for v, found in enumerate(chosen)]))
            amounts.append(torch.cat([c.factor[found, HUE] for c, found in zip(colours, chosen, strict=True)]))
    blurs = any(d.blurred is not None for d in draws)
    if blurs:
        rows.append(torch.nonzero(_flag([d.blurred for d in draws], count))[:, 0])
        amounts.append(torch.cat([d.sigma for d in draws])[rows[-1]])
    sent = to_device(torch.cat(floats), device)
    pairs: list[tuple[Tensor, Tensor]] = []
    if rows:
        there, numbers = to_device(torch.cat(rows), device), to_device(torch.cat(amounts), device)
        sizes = [len(found) for found in rows]
        pairs = list(zip(there.split(sizes), numbers.split(sizes), strict=True))
    place = 4
    taken: list[Tensor | None] = []
    for found in flags:
        on = any(x is not None for x in found)
        taken.append(sent[place] if on else None)
        place += on
    return Recipe(
        boxes=sent[:4].T,
        mirrored=taken[0],
        grey=taken[1],
        solarized=taken[2],
        mix=sent[place:].view(turns, 3, -1) if mix is not None else None,
        hue=pairs[: len(pairs) - blurs],
        blur=pairs[-1] if blurs else None,
    )


def to_device(x: Tensor, device: str) -> Tensor:
    """Send a tensor of the CPU to the device; the host goes on at once."""
    return x.pin_memory().to(device, non_blocking=True) if device == "cuda" else x


def _flag(found: list[Tensor | None], count: int) -> Tensor:
    """Join flags of several views into (N,) float; a view without them has none."""
    return torch.cat([torch.zeros(count) if x is None else x.float() for x in found])


def _unchanged(draws: list[Draws], count: int) -> Colours:
    """Stand for the colours of a view in which they do not change, beside views in which they do."""
    kinds = next(d.colours.order.shape[1] for d in draws if d.colours is not None)
    order = torch.arange(kinds).expand(count, kinds)
    return Colours(torch.ones(count, 4), order, torch.zeros(count, dtype=torch.bool))


def _mixture(colours: list[Colours]) -> Tensor:
    """Write brightness, contrast and saturation of all turns as one mixture: (turns, 3, N); see `Recipe.mix`."""
    order = torch.cat([c.order for c in colours]).T  # (turns, N)
    factor = torch.cat([c.factor for c in colours])
    applied = torch.cat([c.applied for c in colours])
    amount = factor.gather(1, order.T).T  # of the change that an image meets in each turn
    mix = torch.zeros(len(order), 3, len(factor))
    mix[:, _SCALED] = torch.where(applied & (order != HUE), amount, 1.0)
    mix[:, _LUMA] = torch.where(applied & (order == SATURATION), 1.0 - amount, 0.0)
    mix[:, _LEVEL] = torch.where(applied & (order == CONTRAST), 1.0 - amount, 0.0)
    assert BRIGHTNESS not in (HUE, SATURATION, CONTRAST)
    return mix


def views_on_device(
    pixels: Tensor, sizes: Tensor | None, plan: list[ViewSettings], rngs: list[torch.Generator]
) -> list[Tensor]:
    """Make the views of one batch where its pixels lie; views of one size are made together.

    Args:
        pixels: (B, H, W, C) uint8; smaller images fill the upper left corner.
        sizes: (B, 2) float on the CPU, height and width of each image; None where all fill the whole.
        plan: of each view.
        rngs: of each view.

    Returns:
        V tensors (B, C, S, S).
    """
    count, height, width, _ = pixels.shape
    tall, wide = (height, width) if sizes is None else (sizes[:, 0], sizes[:, 1])
    found: list[Tensor] = []
    for _, equal in groupby(zip(plan, rngs, strict=True), key=lambda pair: pair[0].size):
        pairs = list(equal)
        draws = [draw_view(count, tall, wide, settings, rng) for settings, rng in pairs]
        made = recipe(draws, pixels.device.type)
        found += make_views(pixels, made, pairs[0][0], len(pairs)).split(count)
    return found


def make_views(images: Tensor, made: Recipe, settings: ViewSettings, views: int) -> Tensor:
    """Make V views of each image.

    Args:
        images: (B, H, W, C) uint8 on the device. Where images are smaller than that they fill the upper left corner;
            boxes never reach beyond them.
        made: from `recipe`.
        settings: size, channels, normalisation and width of the blur, which all of these views share.
        views: V.

    Returns:
        (V B, C, S, S) float32, normalised, channels last in memory: all first views, then all second ones.
    """
    kind = torch.float16 if settings.size > HALF_SIDE else torch.float32
    x = _crops(images, made, settings.size, views, kind)
    if made.mix is not None:
        for turn, mix in enumerate(made.mix.to(kind)):
            x = _mixed(x, mix)
            if made.hue and len(made.hue[turn][0]):
                rows, turns = made.hue[turn]
                x.index_copy_(0, rows, turned_hue(x[rows], turns.to(kind).view(-1, 1, 1, 1)).clamp_(0.0, 1.0))
    if made.grey is not None:
        x = torch.where(made.grey.view(-1, 1, 1, 1) > 0, luma_of(x), x)
    if made.blur is not None and len(made.blur[0]):
        rows, sigma = made.blur
        x.index_copy_(0, rows, _blurred(x[rows], sigma, settings.blur_kernel))
    if made.solarized is not None:
        x = torch.where((made.solarized.view(-1, 1, 1, 1) > 0) & (x >= 0.5), 1.0 - x, x)
    mean, std = (_on(values, x.device) for values in (settings.mean, settings.std))
    normalised = torch.empty_like(x, dtype=torch.float32, memory_format=torch.channels_last)
    return torch.addcmul(-mean / std, x, 1.0 / std, out=normalised)


def _crops(images: Tensor, made: Recipe, size: int, views: int, kind: torch.dtype) -> Tensor:
    """Cut, resize and mirror: (B, H, W, C) -> (V B, C, S, S) in [0, 1], by two matrix products a view as on the CPU."""
    count, height, width, channels = images.shape
    rows = _weights(made.boxes[:, 0], made.boxes[:, 2], height, size, None, kind)
    columns = _weights(made.boxes[:, 1], made.boxes[:, 3], width, size, made.mirrored, kind)
    lines = images.to(kind).div_(255.0).view(count, height, width * channels)  # all channels at once
    found = []
    for down, across in zip(rows.split(count), columns.split(count), strict=True):
        scaled = torch.bmm(down, lines).view(count, size, width, channels).permute(0, 3, 1, 2)
        found.append(torch.bmm(scaled.reshape(count, channels * size, width), across.transpose(1, 2)))
    return torch.cat(found).view(views * count, channels, size, size)


def _weights(
    start: Tensor, length: Tensor, size_in: int, size_out: int, mirrored: Tensor | None, kind: torch.dtype
) -> Tensor:
    """Compute what `resize_weights` does, in few passes over the large result: (N, size_out, size_in).

    Whatever belongs to a row or a column alone is computed before the two are combined.
    """
    scale = (length / size_out).view(-1, 1, 1)
    width = scale.clamp(min=1.0)
    out = torch.arange(size_out, device=start.device, dtype=torch.float32).view(1, -1, 1)
    if mirrored is not None:
        out = torch.where(mirrored.view(-1, 1, 1) > 0, size_out - 1 - out, out)
    pixel = torch.arange(size_in, device=start.device, dtype=torch.float32).view(1, 1, -1)
    first = start.view(-1, 1, 1)
    inside = (pixel >= first) & (pixel < first + length.view(-1, 1, 1))
    place = torch.where(inside, (pixel + 0.5 - first) / width, torch.inf)  # a pixel outside the crop weighs nothing
    weight = (place - (out + 0.5) * (scale / width)).abs_()
    weight = torch.sub(1.0, weight, out=weight).clamp_(min=0.0)
    total = weight.sum(dim=2, keepdim=True)
    return torch.div(weight, total, out=torch.empty_like(weight, dtype=kind))


def _mixed(x: Tensor, mix: Tensor) -> Tensor:
    """Let each image become its mixture of itself, its luma and its mean luma, within [0, 1]."""
    scaled, coloured, levelled = (row.view(-1, 1, 1, 1) for row in mix)
    grey = luma_of(x)
    level = grey.mean(dim=(2, 3), keepdim=True, dtype=torch.float32).to(x.dtype)
    return torch.addcmul(torch.addcmul(levelled * level, grey, coloured), x, scaled).clamp_(0.0, 1.0)


def luma_of(x: Tensor) -> Tensor:
    """Compute the luma of (N, C, S, S): (N, 1, S, S)."""
    if x.shape[1] != 3:
        return luma(x)
    red, green, blue = LUMA
    return x[:, :1].mul(red).add_(x[:, 1:2], alpha=green).add_(x[:, 2:], alpha=blue)


def _blurred(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur (n, C, S, S) images, each with its own sigma in pixels, by a matrix for the columns and one for the rows."""
    count, channels, size, _ = x.shape
    offsets = torch.arange(kernel, device=x.device) - kernel // 2
    weight = torch.exp(-(offsets**2) / (2.0 * sigma[:, None] ** 2))
    weight = weight / weight.sum(dim=1, keepdim=True)
    taps = _taps(size, kernel, str(x.device)).to(weight.dtype)
    matrix = (weight @ taps.flatten(1)).view(count, size, size).to(x.dtype)  # [i, j]: how much of pixel j goes into i
    along = torch.bmm(x.reshape(count, channels * size, size), matrix.transpose(1, 2)).view(x.shape)
    lines = along.transpose(2, 3).reshape(count, channels * size, size)
    return torch.bmm(lines, matrix.transpose(1, 2)).view(x.shape).transpose(2, 3)


@lru_cache(maxsize=8)
def _taps(size: int, kernel: int, device: str) -> Tensor:
    """Tell which pixel lies at each offset of a kernel, edges reflected: (kernel, S, S) bool."""
    position = torch.arange(size)[None] + torch.arange(kernel)[:, None] - kernel // 2
    position = position.abs()
    position = torch.where(position >= size, 2 * (size - 1) - position, position)
    return F.one_hot(position, size).bool().to(device)


@lru_cache(maxsize=8)
def _on(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(1, -1, 1, 1)
