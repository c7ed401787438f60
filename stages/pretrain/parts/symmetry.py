"""The term that draws the kernels of a backbone towards a symmetry, added to the loss of any method."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from reprise.config.errors import TrainingError
from reprise.objectives.weights.symmetry import kernel_asymmetry
from reprise.runtime.world import is_part
from reprise.training.batches import Step
from reprise.training.params import SymmetryParams


def with_symmetry(step: Step, backbone: nn.Module, params: SymmetryParams | None) -> Step:
    """Return the step of a method whose loss also says how far the backbone's kernels are from a symmetry.

    The term depends on weights alone: in several processes and micro-batches it counts as once.

    Args:
        step: of the method.
        backbone: whose kernels are meant.
        params: None leaves the step as it is.

    Raises:
        TrainingError: the backbone has no such kernels, or only parts of them lie in this process.
    """
    if params is None:
        return step
    refuse_symmetry(backbone, any(is_part(kernel) for kernel in kernels_of(backbone)))

    def regularised(batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        loss, figures = step(batch)
        asymmetry = kernel_asymmetry(kernels_of(backbone), params.group, params.channels)
        return loss + params.weight * asymmetry, {**figures, "asymmetry": asymmetry}

    return regularised


def refuse_symmetry(backbone: nn.Module, in_parts: bool) -> None:
    """Refuse the term where there is nothing that it could draw; `reprise check` calls it before anything runs.

    Args:
        backbone: whose kernels are meant.
        in_parts: whether its weights are shared out to several processes.

    Raises:
        TrainingError: the backbone has no such kernels, or only parts of them lie in this process.
    """
    if in_parts or not kernels_of(backbone):
        raise TrainingError(
            "the term `symmetry` needs whole square kernels of two-dimensional convolutions",
            where="train.symmetry",
            found="parts of weights (train.shard_weights)" if in_parts else f"none in {type(backbone).__name__}",
            fix="Leave the block out, or choose a convolutional backbone whose weights are not shared out.",
        )


def kernels_of(network: nn.Module) -> list[Tensor]:
    """List the kernels that turns of images turn, in the order of the modules: square ones of all channels."""
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    return [layer.weight for layer in layers if layer.groups == 1 and layer.kernel_size[0] == layer.kernel_size[1]]
