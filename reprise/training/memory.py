"""How much memory a training takes on the CPU, estimated before it starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

NUMBER = 4  # bytes; weights, gradients and optimiser are kept in float32, and bf16 is counted as if it were
PROCESS = 480 << 20  # bytes of Python, torch and the data set's index, before the first image
BACKWARD = 1.1  # what layers give out, and the gradients of it that live at the same time
MOMENTS = {"sgd": 1, "lars": 1, "adamw": 2}  # numbers that an optimiser keeps for each weight


@dataclass(frozen=True)
class TrainingMemory:
    """An estimate.

    Attributes:
        least: bytes that weights, gradients and the optimiser's state take, all at the same time: no training of this
            network takes less.
        peak: bytes at the end of a forward pass, the estimate.
    """

    least: int
    peak: int


def held_by_each(model: nn.Module, parted: Iterable[nn.Module] = (), processes: int = 1) -> int:
    """Count the weights of which one process holds gradients and the optimiser's state.

    Args:
        model: all that learns.
        parted: networks of it whose weights are shared among processes (`train.shard_weights`). The weights themselves
            are counted whole elsewhere, because each process builds the whole network before it is parted.
        processes: that share them.
    """
    shared = {weight for network in parted for weight in network.parameters()}
    sizes = [(w.numel(), processes if w in shared else 1) for w in model.parameters() if w.requires_grad]
    return sum(-(-size // by) for size, by in sizes)


def training_memory(
    weights: int, trained: int, kept: int, views: float, batch: int, optimizer: str, pixels: int
) -> TrainingMemory:
    """Estimate the peak of one training process on the CPU.

    The formula, in bytes: `least = 4 (weights + trained (1 + m))` and
    `peak = PROCESS + pixels + least + 4 BACKWARD kept views batch`, with m = 1 moment for SGD and LARS and 2 for AdamW.
    Heads' activations, the loss and the views themselves are left out: they are small beside those of the backbone,
    except for tiny networks. Against the measured run of tests/reprise/training/test_memory.py it lies within a third.

    Args:
        weights: numbers in the parameters and buffers of the whole method, teachers and queues included.
        trained: those of them that get gradients.
        kept: numbers that the backbone's layers give out for one image (reprise/networks/memory/footprint.py).
        views: of each image, each weighed by its area in proportion to the whole image's.
        batch: images in a step.
        optimizer: `sgd`, `lars` or `adamw`.
        pixels: bytes of the decoded training images that are held in memory.
    """
    least = NUMBER * (weights + trained * (1 + MOMENTS[optimizer]))
    return TrainingMemory(least, round(PROCESS + pixels + least + NUMBER * BACKWARD * kept * views * batch))
