"""Forward and backward pass of one step: plainly, compiled, or recorded once as a CUDA graph and replayed.

A GPU is faster than a host that starts each of its operations: a graph starts all of them with one call. Recording is
safe only for a step that is a function of its batch and of tensors, so a method says so itself
(`Method.capturable`). The optimiser and everything that follows a schedule stay outside of the graph, because the graph
would repeat the numbers of the step at which it was recorded.

A batch has one of few shapes, since batches of an epoch differ by at most one image; each shape has a graph of its own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reprise.runtime.device import Compute
from reprise.runtime.world import ALONE, World, is_part
from reprise.training.batches import Figures, Step, backward, copied, tensors_in

PLAIN_STEPS = 2  # of each shape before it is recorded: libraries choose their algorithms and workspaces in these
MOST_SHAPES = 4  # a graph keeps the memory of its shape; further shapes are not recorded


@dataclass(frozen=True)
class Acceleration:
    """How the step of a training is made faster.

    Attributes:
        compile: the networks of the step are compiled by torch.compile, each on its own; the losses are not, which
            are a small part of the time and are written in many ways that a compiler may stumble over.
        graph: the step is recorded as a CUDA graph.
        notes: why something that was asked for, or is usual on this device, is left out.
    """

    compile: bool = False
    graph: bool = False
    notes: tuple[str, ...] = ()


PLAINLY = Acceleration()


def accelerated(
    compiled: str, graph: str, compute: Compute, capturable: bool, recomputes: bool = False, processes: int = 1
) -> Acceleration:
    """Resolve `train.compile` and `train.graph`, each `auto`, `off` or `on`.

    `auto` does neither on a CPU. On a GPU it records every step that says it can be. It never compiles: that costs
    half a minute before the first step (docs/measurements/training-speed.md).

    Args:
        compiled: train.compile.
        graph: train.graph.
        compute: device, and whether results must repeat.
        capturable: the step is a function of its batch and of tensors.
        recomputes: the step computes parts of itself again in its backward pass, which neither can take.
        processes: that take the step together; neither can take what they exchange within it.
    """
    on_gpu, notes = compute.device == "cuda", []
    if recomputes or processes > 1:
        also = " train.activation_checkpointing and train.chunk_size compute parts of it twice."
        if processes > 1:
            also = " several processes exchange what it computes (train.processes)."
        if compiled == "on":
            notes.append(f"the step is not compiled:{also}")
        if graph != "off" and on_gpu:
            notes.append(f"the step is not recorded as a CUDA graph:{also}")
        return Acceleration(notes=tuple(notes))
    if graph == "on" and not on_gpu:
        notes.append("the step is not recorded as a CUDA graph: training runs on the CPU.")
    if graph != "off" and on_gpu and not capturable:
        notes.append("the step is not recorded as a CUDA graph: the method's step depends on more than tensors.")
    return Acceleration(compiled == "on", graph != "off" and on_gpu and capturable, tuple(notes))


class Gradients:
    """Computes the loss of a batch and leaves the gradients in the parameters.

    Args:
        model: its parameters get the gradients.
        step: the loss of a batch; runs under autocast where `compute` says so.
        compute: device and precision.
        acceleration: how.
        micro_batches: into how many parts a batch is cut, which go forward and backward one after the other.
        world: the processes that hold the batch together; the gradients are averaged over them, and so is the loss.
        around: makes the context of the forward and backward pass of each batch.
        quiet: called before a step is recorded; other threads must not release pinned memory of this stream meanwhile,
            because the event that marks the release would become a part of the graph, and CUDA refuses to ask for it
            afterwards ("invalid argument", wherever pinned memory is next asked for).
    """

    def __init__(
        self,
        model: nn.Module,
        step: Step,
        compute: Compute,
        acceleration: Acceleration = PLAINLY,
        micro_batches: int = 1,
        quiet: Callable[[], None] = lambda: None,
        world: World = ALONE,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.model, self.compute, self.micro_batches, self.quiet = model, compute, micro_batches, quiet
        self.world, self.around = world, around
        self.step = step
        self.records = acceleration.graph and compute.device == "cuda"
        self.parted = any(is_part(weight) for weight in model.parameters())
        self.notes: list[str] = []
        self.proven = not acceleration.compile  # whether a step has been tried with compiled networks
        if acceleration.compile:
            for network in model.children():
                network.compile(dynamic=False)
        self.seen: dict[Any, int] = {}  # shape -> plain steps so far
        self.graphs: dict[Any, _Graph] = {}

    def __call__(self, batch: Any) -> Figures:
        """Return the loss and the figures of a batch; they are valid until the next call."""
        if not self.records:
            return self._plainly(batch)
        shape = tuple((x.shape, x.stride(), x.dtype) for x in tensors_in(batch))
        if shape not in self.graphs:
            self.seen[shape] = self.seen.get(shape, 0) + 1
            if self.seen[shape] <= PLAIN_STEPS or len(self.graphs) == MOST_SHAPES or not self._record(batch, shape):
                return self._plainly(batch)
        return self.graphs[shape](batch)

    def _plainly(self, batch: Any) -> Figures:
        for parameter in self.model.parameters():
            parameter.grad = None
        first, self.proven = not self.proven, True
        try:
            with self.around():
                result = backward(self._forward, batch, self.micro_batches)
            return self._averaged(result)
        except Exception as error:
            if not first:
                raise
            for network in self.model.children():  # a machine without a compiler, or code that it cannot take
                network._compiled_call_impl = None  # noqa: SLF001 - torch has no public way back
            if self.compute.device == "cuda":
                torch.cuda.synchronize()  # what the compiler began ends here, not in a later call
            self._note(f"the networks are not compiled: {type(error).__name__}: {_reason(error)}")
            return self._plainly(batch)

    def _averaged(self, result: Figures) -> Figures:
        """Average gradients, the loss and single figures over the processes; rows are those of the whole batch."""
        if self.world.size == 1:
            return result
        loss, figures = result[0].clone(), {name: value.clone() for name, value in result[1].items()}
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.world.average([x for x in gradients if not is_part(x)])  # parts come averaged
        self.world.average([loss, *(value for value in figures.values() if value.ndim == 0)])
        return loss, figures

    def _note(self, sentence: str) -> None:
        self.notes.append(sentence)
        print(f"note: {sentence}", file=sys.stderr, flush=True)

    def _forward(self, batch: Any) -> Figures:
        # A graph must not keep casts of weights that change after it was recorded, which autocast's cache would do. Of
        # weights in parts it would keep the whole ones.
        with self.compute.autocast(cache=not self.records and not self.parted):
            return self.step(batch)

    def _record(self, batch: Any, shape: Any) -> bool:
        """Record the step for batches of this shape; tell whether that was possible."""
        self.quiet()
        torch.cuda.synchronize()
        for parameter in self.model.parameters():
            parameter.grad = None  # the graph allocates its own, and each replay writes them anew
        try:
            pool = next(iter(self.graphs.values())).graph.pool() if self.graphs else None
            self.graphs[shape] = _Graph(self.model, self._forward, batch, pool, self.micro_batches)
        except Exception as error:  # noqa: BLE001 - whatever cannot be recorded is computed plainly
            self.records = False
            self.graphs.clear()
            torch.cuda.synchronize()
            self._note(f"the step is not recorded as a CUDA graph: {type(error).__name__}: {_reason(error)}")
            return False
        return True


class _Graph:
    """One recorded forward and backward pass, with the memory that it reads and writes."""

    def __init__(self, model: nn.Module, forward: Step, batch: Any, pool: Any, micro_batches: int) -> None:
        self.batch = copied(batch)
        self.inputs = tensors_in(self.batch)
        self.graph = torch.cuda.CUDAGraph()
        # Other threads go on working with the device: they decode, and write checkpoints.
        with torch.cuda.graph(
            self.graph, pool=pool, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"
        ):
            self.loss, self.figures = backward(forward, self.batch, micro_batches)
        self.gradients = [(p, p.grad) for p in model.parameters()]

    def __call__(self, batch: Any) -> Figures:
        for place, value in zip(self.inputs, tensors_in(batch), strict=True):
            place.copy_(value)
        self.graph.replay()
        for parameter, gradient in self.gradients:  # hooks may have taken one away: that freezes a parameter
            parameter.grad = gradient
        return self.loss, self.figures


def _reason(error: Exception) -> str:
    """Return the line that says why; an error of a process of the compiler ends with that process's traceback."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    inner = [line for line in lines if re.match(r"[\w.]*(Error|Exception): \S", line)]
    return inner[-1] if inner else lines[0] if lines else "without a reason"
