"""Turn training state from tensors to arrays and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def arrays_of(value: Any) -> Any:
    """Turn the tensors in a tree of dictionaries and lists into NumPy arrays (copies)."""
    if torch.is_tensor(value):
        return value.detach().cpu().contiguous().numpy().copy()
    if isinstance(value, dict):
        return {k: arrays_of(v) for k, v in value.items()}
    return [arrays_of(v) for v in value] if isinstance(value, list | tuple) else value


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
                buffers[name] = torch.empty_like(parameter).copy_(value)
