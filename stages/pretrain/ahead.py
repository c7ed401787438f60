"""The next batch, made on a GPU beside the step on this one.

A step does not keep a GPU busy at every moment, and neither does the making of views. On two streams each fills the
gaps of the other. What is made is the same either way: views depend on the seed and the number of the batch alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from reprise.training.batches import tensors_in


class Ahead:
    """Holds at most one batch that was begun before it was asked for.

    Args:
        on_gpu: on a CPU nothing is begun early, because it has no time to spare.
    """

    def __init__(self, on_gpu: bool) -> None:
        self.beside = torch.cuda.Stream() if on_gpu else None
        self.waiting: tuple[Any, Any, torch.cuda.Event] | None = None  # its name, the batch, and when it is there

    def begin(self, name: Any, make: Callable[[], Any]) -> None:
        """Begin to make a batch; the host goes on as soon as its operations are queued."""
        if self.beside is None:
            return
        with torch.cuda.stream(self.beside):
            self.waiting = (name, make(), self.beside.record_event())

    def take(self, name: Any, make: Callable[[], Any]) -> Any:
        """Return the batch of this name, made now unless it was begun before."""
        waiting, self.waiting = self.waiting, None
        if waiting is None or waiting[0] != name:
            return make()
        _, batch, there = waiting
        current = torch.cuda.current_stream()
        current.wait_event(there)
        for tensor in tensors_in(batch):
            if tensor.is_cuda:  # what was drawn lies on the host
                tensor.record_stream(current)  # its memory is used again only after the step has read it
        return batch
