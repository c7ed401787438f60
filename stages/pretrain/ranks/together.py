"""The step of a method in several processes, and what they must agree on before the first one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from torch import Tensor

from reprise.config.errors import TrainingError
from reprise.networks.ranks.parted_weights import refusing_parts
from reprise.networks.ranks.sharing import across_ranks, common_statistics
from reprise.runtime.world import World
from reprise.storage.work_folder import difference
from reprise.training.batches import Step
from stages.pretrain.method import Batch, Method

_SHOWN = 6  # differences named in a message


def shared_step(method: Method, world: World) -> Step:
    """Return the step of a method, whose networks several processes share; of one process it is the method's own."""
    if world.size == 1:
        return method.step

    def step(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        shared = across_ranks(method.embedding_networks(), batch.images, world, method.views_by_image)
        with shared, refusing_parts(type(method).__name__):
            loss, figures = method.step(batch)
        for name, value in figures.items():
            if value.ndim and len(value) % batch.images:
                raise TrainingError(
                    "the method is not written for several processes: a figure does not hold the whole batch",
                    where=f"train.processes, {type(method).__name__}",
                    found=f"'{name}' has {len(value)} rows, the batch {batch.images} images",
                    fix="Set processes to 1 for this run, or gather what the method makes of its views by batch.whole.",
                )
        return loss, figures

    return step


def exchanging(method: Method, world: World) -> Callable[[], AbstractContextManager[None]]:
    """Return what makes the context of a step's forward and backward pass."""
    return partial(common_statistics, method.embedding_networks(), world)


def refuse_other_inputs(inputs: dict[str, Any], world: World) -> None:
    """Refuse to train together with processes that read other parameters or data, such as those of another machine.

    Raises:
        TrainingError: naming what differs from the first process.
    """
    changed = difference(world.agreed(lambda: inputs), inputs)
    if changed:
        raise TrainingError(
            f"process {world.rank} reads other parameters or data than the first one",
            where="train.processes",
            found="; ".join(changed[:_SHOWN]),
            fix="Check out the same revision everywhere, and run `dvc pull`.",
        )
