"""Views of a whole batch in torch, for small images of one size: every parameter is drawn per image.

Cropping and resizing are two small matrix products per image: row i of a matrix holds the weights with which output
pixel i is blended from the input's pixels. The filter is a triangle, widened where the crop shrinks; Pillow and
torchvision call it antialiased bilinear. Mirroring reverses the matrix of the columns.

Shape legend: B images, H W input side, S output side, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reprise.training.change import Change, Drawn
from stages.pretrain.views.draws import ViewDraws, draw_view, frame_of
from stages.pretrain.views.settings import ViewSettings


def batched_view(images: Tensor, settings: ViewSettings, rng: torch.Generator, device: str = "cpu") -> Tensor:
    """Draw and make one random view of each image; see `made_view`.

    Args:
        images: (B, H, W, C) uint8.
        settings: of the view.
        rng: a CPU generator, so that draws do not depend on the device. They are copied there without waiting
            (`non_blocking`), and the host may run ahead of a GPU.
        device: where the view is made.
    """
    drawn = draw_view(frame_of(len(images), images.shape[1], images.shape[2]), settings, rng)
    return made_view(images, settings, drawn, device)


def made_view(images: Tensor, settings: ViewSettings, drawn: ViewDraws, device: str = "cpu") -> Tensor:
    """Make the view that was drawn of each image.

    Args:
        images: (B, H, W, C) uint8.
        settings: of the view.
        drawn: from `draw_view`.
        device: where the view is made.

    Returns:
        (B, C, S, S) float32, normalised.
    """
    x = images.to(device, non_blocking=True).float().div_(255.0)
    mirrored, rest = mirrors_first(settings.after_cut, drawn.changes)
    flags = None if mirrored is None else mirrored.to(device, non_blocking=True)
    x = resized_crops(x, drawn.boxes.to(device, non_blocking=True), settings.size, flags)
    for change, own in rest:
        ready = {name: value.to(device, non_blocking=True) for name, value in change.prepared(own).items()}
        x = change.apply(x, ready)
    return normalise(x, settings)


def mirrors_first(
    changes: tuple[Change, ...], drawn: tuple[Drawn | None, ...]
) -> tuple[Tensor | None, list[tuple[Change, Drawn]]]:
    """Separate the flags of a flip that directly follows the cut, which the cut mirrors by itself.

    Returns:
        (B,) bool or None, and the other changes that can happen, with what they drew.
    """
    pairs = [(change, own) for change, own in zip(changes, drawn, strict=True) if own is not None]
    if pairs and getattr(pairs[0][0], "mirrors", False):
        return pairs[0][1]["applied"], pairs[1:]
    return None, pairs


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
