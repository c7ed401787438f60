"""Two operations on views as kernels of Triton, which comes with torch for GPUs: colours, and the weights of a resize.

On a GPU these two are bound by memory. In torch each of their thirty steps reads and writes all pixels; a kernel keeps
a pixel until its last step. The results are those of torch up to rounding. This module is imported by `ready.py` alone,
because it needs Triton.

Shape legend: N images, S side of a view, P = S * S.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024  # pixels that a program works on at a time


@triton.jit
def _turned(red, green, blue, turn):
    """Rotate the hue by `turn` of a full circle, as `turned_hue` does."""
    value = tl.maximum(red, tl.maximum(green, blue))
    chroma = value - tl.minimum(red, tl.minimum(green, blue))
    safe = tl.where(chroma == 0.0, 1.0, chroma)
    hue = tl.where(
        value == red,
        (green - blue) / safe,
        tl.where(value == green, (blue - red) / safe + 2.0, (red - green) / safe + 4.0),
    )
    hue += 6.0 * turn
    a, b, c = hue + 5.0, hue + 3.0, hue + 1.0
    a -= tl.floor(a / 6.0) * 6.0
    b -= tl.floor(b / 6.0) * 6.0
    c -= tl.floor(c / 6.0) * 6.0
    a = tl.minimum(tl.maximum(tl.minimum(a, 4.0 - a), 0.0), 1.0)
    b = tl.minimum(tl.maximum(tl.minimum(b, 4.0 - b), 0.0), 1.0)
    c = tl.minimum(tl.maximum(tl.minimum(c, 4.0 - c), 0.0), 1.0)
    return value - a * chroma, value - b * chroma, value - c * chroma


@triton.jit
def _changed(red, green, blue, kind, factors, level):
    """Make one of the four changes; kinds are numbered as in colour.py."""
    if kind == 3:
        red, green, blue = _turned(red, green, blue, tl.load(factors + 3))
    else:
        factor = tl.load(factors + kind)
        about = tl.zeros_like(red)
        if kind == 1:
            about += level
        elif kind == 2:
            about += 0.299 * red + 0.587 * green + 0.114 * blue
        red = (red - about) * factor + about
        green = (green - about) * factor + about
        blue = (blue - about) * factor + about
    red = tl.minimum(tl.maximum(red, 0.0), 1.0)
    green = tl.minimum(tl.maximum(green, 0.0), 1.0)
    blue = tl.minimum(tl.maximum(blue, 0.0), 1.0)
    return red, green, blue


@triton.jit
def _recolour(images, factors, order, applied, pixels, BLOCK: tl.constexpr):
    image = tl.program_id(0).to(tl.int64)
    here, own, turns = images + image * 3 * pixels, factors + image * 4, order + image * 4
    if tl.load(applied + image) != 0:
        total = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, pixels, BLOCK):  # the mean luma that contrast changes about: of what comes before it
            place = start + tl.arange(0, BLOCK)
            there = place < pixels
            red = tl.load(here + place, there, 0.0).to(tl.float32)
            green = tl.load(here + pixels + place, there, 0.0).to(tl.float32)
            blue = tl.load(here + 2 * pixels + place, there, 0.0).to(tl.float32)
            before = tl.load(turns) != 1
            for turn in tl.static_range(3):
                if before:
                    red, green, blue = _changed(red, green, blue, tl.load(turns + turn), own, 0.0)
                before = before & (tl.load(turns + turn + 1) != 1)
            total += tl.where(there, 0.299 * red + 0.587 * green + 0.114 * blue, 0.0)
        level = tl.sum(total) / pixels
        for start in range(0, pixels, BLOCK):
            place = start + tl.arange(0, BLOCK)
            there = place < pixels
            red = tl.load(here + place, there, 0.0).to(tl.float32)
            green = tl.load(here + pixels + place, there, 0.0).to(tl.float32)
            blue = tl.load(here + 2 * pixels + place, there, 0.0).to(tl.float32)
            for turn in tl.static_range(4):
                red, green, blue = _changed(red, green, blue, tl.load(turns + turn), own, level)
            tl.store(here + place, red.to(images.dtype.element_ty), there)
            tl.store(here + pixels + place, green.to(images.dtype.element_ty), there)
            tl.store(here + 2 * pixels + place, blue.to(images.dtype.element_ty), there)


def recolour(x: Tensor, factor: Tensor, order: Tensor, applied: Tensor) -> Tensor:
    """Change the colours of a batch in place.

    Args:
        x: (N, 3, S, S) in [0, 1], on a GPU; float32 or float16.
        factor: (N, 4) float32, order: (N, 4) int64, applied: (N,) bool, on the same device; as `Colour.draw` says.
    """
    x = x.contiguous()
    _recolour[(len(x),)](x, factor.contiguous(), order.contiguous(), applied.to(torch.uint8), x[0, 0].numel(), _BLOCK)
    return x


@triton.jit
def _resize(start, length, mirrored, out, wide, narrow, white, BLOCK: tl.constexpr):
    row, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    first, size = tl.load(start + image), tl.load(length + image)
    scale = size / narrow
    width = tl.maximum(scale, 1.0)
    target = row
    if tl.load(mirrored + image) != 0:
        target = narrow - 1 - row
    centre = (target + 0.5) * (scale / width)
    pixel = tl.arange(0, BLOCK)
    inside = (pixel >= first) & (pixel < first + size) & (pixel < wide)
    weight = tl.maximum(1.0 - tl.abs((pixel + 0.5 - first) / width - centre), 0.0)
    weight = tl.where(inside, weight, 0.0)
    weight = weight / (tl.sum(weight) * white)
    tl.store(out + (image * narrow + row) * wide + pixel, weight.to(out.dtype.element_ty), pixel < wide)


def resize_weights(
    start: Tensor,
    length: Tensor,
    size_in: int,
    size_out: int,
    mirrored: Tensor | None,
    kind: torch.dtype,
    white: float,
) -> Tensor:
    """Compute what `device.resize_weights` does, in one pass: (N, size_out, size_in) of `kind`."""
    out = torch.empty(len(start), size_out, size_in, device=start.device, dtype=kind)
    flags = torch.zeros_like(start, dtype=torch.uint8) if mirrored is None else mirrored.to(torch.uint8)
    block = triton.next_power_of_2(size_in)
    grid = (size_out, len(start))
    _resize[grid](start.contiguous(), length.contiguous(), flags, out, size_in, size_out, float(white), block)
    return out


@triton.jit
def _one(out):
    tl.store(out, 1.0)


def works(device: str) -> bool:
    """Tell whether a kernel can be compiled and run; Triton needs a C compiler, among others."""
    out = torch.zeros(1, device=device)
    _one[(1,)](out)
    return float(out) == 1.0
