"""Batches of any form: tensors, or dataclasses, lists, tuples and dictionaries of tensors, a row an image in each.

A batch that does not fit into memory is cut into micro-batches. Each goes forward and backward by itself, and the
gradients are added up. That is the gradient of the mean of their losses, which is the loss of the whole batch only
where a loss is a mean over images. A loss that compares images compares those of one micro-batch.

A batch that several processes hold together cuts itself (`Shared`), because its parts are those of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from operator import itemgetter
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

Step = Callable[[Any], tuple[Tensor, dict[str, Tensor]]]  # batch -> loss to differentiate, figures for the observer
Figures = tuple[Tensor, dict[str, Tensor]]  # the same, without gradients


@runtime_checkable
class Shared(Protocol):
    """A batch that knows how to cut itself, because not all of its tensors have a row for each image."""

    @property
    def images(self) -> int:
        """How many images it has, those of other processes included."""
        ...

    def part(self, number: int, count: int) -> Self:
        """Return one of `count` micro-batches."""
        ...


def bounds(images: int, number: int, count: int) -> tuple[int, int]:
    """Return the first image of one of `count` micro-batches and the one behind its last."""
    return images * number // count, images * (number + 1) // count


def backward(step: Step, batch: Any, micro_batches: int = 1) -> Figures:
    """Add the gradients of a batch to those of the parameters.

    Args:
        step: the loss of a batch.
        batch: of at least as many images as there are micro-batches.
        micro_batches: how many parts of it are passed, one after the other; their sizes differ by at most one image,
            and each counts in proportion to its images.

    Returns:
        The loss, and the figures of all images: rows of the micro-batches below each other, and means of the rest.
    """
    if micro_batches == 1:
        loss, figures = step(batch)
        loss.backward()
        return loss.detach(), {name: value.detach() for name, value in figures.items()}
    losses: list[Tensor] = []
    parts: list[tuple[float, int, dict[str, Tensor]]] = []
    images = batch.images if isinstance(batch, Shared) else len(tensors_in(batch)[0])
    for number in range(micro_batches):
        first, end = bounds(images, number, micro_batches)
        share = (end - first) / images
        whole = isinstance(batch, Shared)
        part = batch.part(number, micro_batches) if whole else mapped(batch, itemgetter(slice(first, end)))
        loss, figures = step(part)
        (loss * share).backward()
        losses.append(loss.detach() * share)
        parts.append((share, end - first, {name: value.detach() for name, value in figures.items()}))
    return torch.stack(losses).sum(), {name: _joined(name, parts) for name in parts[0][2]}


def _joined(name: str, parts: list[tuple[float, int, dict[str, Tensor]]]) -> Tensor:
    """Join a figure of all micro-batches: (share of the images, images, figures) each."""
    if all(figures[name].ndim and len(figures[name]) == images for _, images, figures in parts):
        return torch.cat([figures[name] for _, _, figures in parts])
    return torch.stack([share * figures[name] for share, _, figures in parts]).sum(dim=0)


def tensors_in(value: Any) -> list[Tensor]:
    """List the tensors of a batch: a tensor, or dataclasses, lists, tuples and dictionaries of them."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in _parts(value) for tensor in tensors_in(part)]


def copied(value: Any) -> Any:
    """Copy a batch; its tensors keep their layout in memory."""
    return mapped(value, lambda x: x.clone(memory_format=torch.preserve_format))


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a batch of the same form with each of its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: mapped(getattr(value, field.name), change) for field in fields(value)})
    if isinstance(value, dict):
        return {name: mapped(part, change) for name, part in value.items()}
    return type(value)(mapped(part, change) for part in value) if isinstance(value, list | tuple) else value


def _parts(value: Any) -> list[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []
