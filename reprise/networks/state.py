"""Turn training state from tensors to arrays and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from reprise.runtime.world import parted_as


def arrays_of(value: Any) -> Any:
    """Turn the tensors in a tree of dictionaries and lists into NumPy arrays (copies)."""
    if torch.is_tensor(value):
        return value.detach().cpu().contiguous().numpy().copy()
    if isinstance(value, dict):
        return {k: arrays_of(v) for k, v in value.items()}
    return [arrays_of(v) for v in value] if isinstance(value, list | tuple) else value


class OnHost:
    """A tree of tensors on its way from a GPU into the host's memory; tensors on the CPU stay where they are.

    The copies join the work that the GPU has queued, and the host does not wait for them. Later changes of the tensors
    do not reach them.
    """

    def __init__(self, tree: Any) -> None:
        self._tree, self._queued = _to_host(tree)

    def wait(self) -> Any:
        """Return the tree once all of its copies have arrived."""
        if self._queued is not None:
            self._queued.synchronize()
        return self._tree


def _to_host(tree: Any) -> tuple[Any, torch.cuda.Event | None]:
    moved = False

    def to_host(value: Any) -> Any:
        nonlocal moved
        if torch.is_tensor(value):
            moved = moved or value.is_cuda
            return value.detach().to("cpu", non_blocking=True) if value.is_cuda else value  # into pinned memory
        if isinstance(value, dict):
            return {name: to_host(part) for name, part in value.items()}
        return [to_host(part) for part in value] if isinstance(value, list | tuple) else value

    found = to_host(tree)
    if not moved:
        return found, None
    event = torch.cuda.Event()
    event.record()
    return found, event


def tensors_of(value: Any) -> Any:
    """Turn the NumPy arrays in a tree of dictionaries and lists into tensors (copies)."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return {k: tensors_of(v) for k, v in value.items()}
    return [tensors_of(v) for v in value] if isinstance(value, list | tuple) else value


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state that `arrays_of(optimizer.state_dict())` returned.

    Buffers take the memory layout of their parameters: arithmetic on another layout may round differently.
    """
    optimizer.load_state_dict(tensors_of(state))
    for parameter, buffers in optimizer.state.items():
        for name, value in buffers.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                buffers[name] = torch.empty_like(parameter).copy_(parted_as(value, parameter))


@contextmanager
def in_evaluation(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode until the block ends, and each of its modules back into its own after it."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode  # not train(), which would also switch modules that stay in evaluation mode
