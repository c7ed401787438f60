"""Losses are computed in float32 (in tests float64) whatever the precision around them: bf16 has three digits."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])


def full_precision(function: F) -> F:
    """Decorate a pure function of tensors: autocast is off inside it, half-precision arguments become float32.

    Args:
        function: takes tensors or lists of tensors; its first positional argument must be one of these.
    """

    @wraps(function)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        first = arguments[0] if torch.is_tensor(arguments[0]) else arguments[0][0]
        with torch.autocast(first.device.type, enabled=False):
            return function(*map(_widened, arguments), **{k: _widened(v) for k, v in keywords.items()})

    return wrapped  # type: ignore[return-value]


def _widened(value: Any) -> Any:
    """Turn half-precision tensors into float32, and leave everything else as it is."""
    if isinstance(value, list):
        return [_widened(v) for v in value]
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value
