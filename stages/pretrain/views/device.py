"""Views of a batch on a GPU, at every size and for images of different sizes.

The draws are those of the CPU (`draws.py`), and so is the result, up to rounding: 0.6 of a pixel value's 255 steps at
most where numbers are halves. What differs is the form. A GPU does one long operation on all images sooner than many
short ones on a few, and copies from the host only what was drawn. So all views of one size are made together, their
draws travel in one copy a number format, and changes take the form that suits a GPU.

Shape legend: B images, V views, N = V B, H W input side, S output side, C channels.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import torch
from torch import Tensor

from reprise.training.change import Change, Drawn
from stages.pretrain.parts.pixels.ready import WIDEST, kernels
from stages.pretrain.views.batched import mirrors_first
from stages.pretrain.views.draws import ViewDraws
from stages.pretrain.views.settings import ViewSettings

HALF_SIDE = 64  # pixels: larger views are made in half precision, whose steps are a sixteenth of a pixel's


@dataclass(frozen=True)
class Recipe:
    """The draws of N views in the form that the GPU works with; on its way there.

    Attributes:
        boxes: (N, 4) float: top, left, height, width of the crops in pixels.
        mirrored: (N,) bool; None where no cut mirrors.
        changes: the others, each with what it needs.
    """

    boxes: Tensor
    mirrored: Tensor | None
    changes: list[tuple[Change, Drawn]]


def recipe(draws: list[ViewDraws], settings: ViewSettings, device: str) -> Recipe:
    """Gather the draws of V views of the same images and send them to the device.

    Args:
        draws: of each view; a change that cannot happen in some of them counts as not drawn there.
        settings: whose changes these views share, but for probabilities and limits of what is drawn.
        device: where views are made.
    """
    joined = tuple(_joined([d.changes[place] for d in draws]) for place in range(len(settings.after_cut)))
    mirrored, rest = mirrors_first(settings.after_cut, joined)
    parts: list[Drawn] = [{"boxes": torch.cat([d.boxes for d in draws])}]
    parts.append({} if mirrored is None else {"mirrored": mirrored})
    parts += [change.prepared_for_gpu(own) for change, own in rest]
    first, second, *others = sent(parts, device)
    return Recipe(first["boxes"], second.get("mirrored"), [(c, own) for (c, _), own in zip(rest, others, strict=True)])


def _joined(drawn: list[Drawn | None]) -> Drawn | None:
    """Join the draws of one change in several views; where it cannot happen, its flags are off."""
    known = next((own for own in drawn if own is not None), None)
    if known is None:
        return None
    nothing = {name: torch.zeros_like(value) for name, value in known.items()}
    views = [nothing if own is None else own for own in drawn]
    return {name: torch.cat([own[name] for own in views]) for name in known}


def sent(parts: list[Drawn], device: str) -> list[Drawn]:
    """Send many tensors of the CPU to the device, all of one number format in one copy."""
    if device != "cuda":
        return parts
    by_kind: dict[torch.dtype, list[tuple[int, str, Tensor]]] = {}
    for place, part in enumerate(parts):
        for name, value in part.items():
            by_kind.setdefault(value.dtype, []).append((place, name, value))
    there: list[Drawn] = [{} for _ in parts]
    for tensors in by_kind.values():
        whole = to_device(torch.cat([value.reshape(-1) for _, _, value in tensors]), device)
        pieces = whole.split([value.numel() for _, _, value in tensors])
        for (place, name, value), piece in zip(tensors, pieces, strict=True):
            there[place][name] = piece.view(value.shape)
    return there


def to_device(x: Tensor, device: str) -> Tensor:
    """Send a tensor of the CPU to the device; the host goes on at once."""
    return x.pin_memory().to(device, non_blocking=True) if device == "cuda" else x


def views_on_device(pixels: Tensor, plan: list[ViewSettings], draws: list[ViewDraws]) -> list[Tensor]:
    """Make the views of one batch where its pixels lie; views of one size are made together.

    Args:
        pixels: (B, H, W, C) uint8; smaller images fill the upper left corner.
        plan: of each view.
        draws: of each view.

    Returns:
        V tensors (B, C, S, S).
    """
    count, found = len(pixels), []
    for _, equal in groupby(zip(plan, draws, strict=True), key=lambda pair: _made_together(pair[0])):
        pairs = list(equal)
        settings = pairs[0][0]
        made = recipe([drawn for _, drawn in pairs], settings, pixels.device.type)
        found += make_views(pixels, made, settings, len(pairs)).split(count)
    return found


def _made_together(settings: ViewSettings) -> Hashable:
    """Tell views apart that cannot be made together: of other sizes, or whose changes apply draws in other ways."""
    return settings.size, tuple(
        (type(c), c.params.model_dump_json(exclude={"probability"})) for c in settings.after_cut
    )


def make_views(images: Tensor, made: Recipe, settings: ViewSettings, views: int) -> Tensor:
    """Make V views of each image.

    Args:
        images: (B, H, W, C) uint8 on the device. Where images are smaller than that they fill the upper left corner;
            boxes never reach beyond them.
        made: from `recipe`.
        settings: size, channels and normalisation, which all of these views share.
        views: V.

    Returns:
        (V B, C, S, S) float32, normalised, channels last in memory: all first views, then all second ones.
    """
    kind = torch.float16 if settings.size > HALF_SIDE else torch.float32
    x = _crops(images, made, settings.size, views, kind)
    for change, ready in made.changes:
        x = change.apply_on_gpu(x, ready)
    mean, std = (_on(values, x.device) for values in (settings.mean, settings.std))
    normalised = torch.empty_like(x, dtype=torch.float32, memory_format=torch.channels_last)
    return torch.addcmul(-mean / std, x, 1.0 / std, out=normalised)


def _crops(images: Tensor, made: Recipe, size: int, views: int, kind: torch.dtype) -> Tensor:
    """Cut, resize and mirror: (B, H, W, C) -> (V B, C, S, S) in [0, 1], by two matrix products a view as on the CPU."""
    count, height, width, channels = images.shape
    rows = resize_weights(made.boxes[:, 0], made.boxes[:, 2], height, size, None, kind)
    columns = resize_weights(made.boxes[:, 1], made.boxes[:, 3], width, size, made.mirrored, kind, white=255.0)
    lines = images.to(kind).view(count, height, width * channels)  # all channels at once
    found = []
    for down, across in zip(rows.split(count), columns.split(count), strict=True):
        scaled = torch.bmm(down, lines).view(count, size, width, channels).permute(0, 3, 1, 2)
        found.append(torch.bmm(scaled.reshape(count, channels * size, width), across.transpose(1, 2)))
    return torch.cat(found).view(views * count, channels, size, size)


def resize_weights(
    start: Tensor,
    length: Tensor,
    size_in: int,
    size_out: int,
    mirrored: Tensor | None,
    kind: torch.dtype,
    white: float = 1.0,
) -> Tensor:
    """Compute the weights of batched.py, divided by `white`, by a kernel or in few passes over the large result.

    Whatever belongs to a row or a column alone is computed before the two are combined, and distances are rounded to
    `kind` as they are written: those that count are below 1.

    Returns:
        (N, size_out, size_in) of `kind`.
    """
    kernel = kernels() if start.is_cuda and size_in <= WIDEST else None
    if kernel is not None:
        return kernel.resize_weights(start, length, size_in, size_out, mirrored, kind, white)
    scale = (length / size_out).view(-1, 1, 1)
    width = scale.clamp(min=1.0)
    out = torch.arange(size_out, device=start.device, dtype=torch.float32).view(1, -1, 1)
    if mirrored is not None:
        out = torch.where(mirrored.view(-1, 1, 1), size_out - 1 - out, out)
    pixel = torch.arange(size_in, device=start.device, dtype=torch.float32).view(1, 1, -1)
    first = start.view(-1, 1, 1)
    inside = (pixel >= first) & (pixel < first + length.view(-1, 1, 1))
    place = torch.where(inside, (pixel + 0.5 - first) / width, torch.inf)  # a pixel outside the crop weighs nothing
    centre = (out + 0.5) * (scale / width)
    weight = torch.empty(len(start), size_out, size_in, device=start.device, dtype=kind)
    torch.sub(place, centre, out=weight).abs_()
    torch.sub(1.0, weight, out=weight).clamp_(min=0.0)
    return torch.div(weight, weight.sum(dim=2, keepdim=True, dtype=torch.float32) * white, out=weight)


@lru_cache(maxsize=8)
def _on(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(1, -1, 1, 1)
