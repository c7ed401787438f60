"""What a machine has for stages that run at once, and what is taken of it.

A stage takes a place among the jobs for each of its processes, memory, and GPUs where it trains on them. One that needs
more than there is runs alone, because another machine may not be at hand.

A training on a GPU feeds it with many threads. Where trainings run beside each other, each gets the share of the cores
that belongs to its GPUs; their results do not depend on it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reprise.runtime.entry import WORKERS, cores, threads
from reprise.runtime.memory import memory_limit

GPUS = "CUDA_VISIBLE_DEVICES"
SHARERS = 4  # stages that compute on one GPU at once; nobody knows beforehand what they take of its memory
_NVIDIA = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU that the driver knows


@dataclass(frozen=True)
class Demand:
    """What a stage needs.

    Attributes:
        memory: bytes.
        gpus: how many it has for itself; 0 for a stage that does not train on them.
        places: how many of the jobs it counts for.
        shares_gpu: whether it may compute on a GPU beside others.
    """

    memory: int = 0
    gpus: int = 0
    places: int = 1
    shares_gpu: bool = False


@dataclass
class Machine:
    """What there is, and what is free.

    Attributes:
        jobs: how many processes of stages may run at once.
        memory: bytes that they may take together; None where nobody knows.
        gpus: the GPUs, as CUDA_VISIBLE_DEVICES names them.
        cores: that trainings on GPUs divide among them; 0 tells them nothing.
    """

    jobs: int
    memory: int | None = None
    gpus: tuple[str, ...] = ()
    cores: int = 0
    _taken: dict[str, tuple[Demand, tuple[str, ...]]] = field(default_factory=dict)
    _shared: dict[str, str] = field(default_factory=dict)

    def take(self, stage: str, demand: Demand) -> dict[str, str] | None:
        """Take what a stage needs.

        Args:
            stage: its name, under which `give_back` returns everything.
            demand: what it needs.

        Returns:
            Environment variables for the stage, or None if it has to wait.
        """
        busy = {gpu for _, gpus in self._taken.values() for gpu in gpus}
        free = [gpu for gpu in self.gpus if gpu not in busy]
        memory = demand.memory + sum(other.memory for other, _ in self._taken.values())
        places = demand.places + sum(other.places for other, _ in self._taken.values())
        wanted = min(demand.gpus, len(self.gpus))
        too_much = places > self.jobs or (self.memory is not None and memory > self.memory)
        sharing = demand.shares_gpu and bool(self.gpus)
        shared = self._gpu_to_share(busy) if sharing else None
        if self._taken and (too_much or len(free) < wanted or (sharing and shared is None)):
            return None
        chosen = tuple(free[:wanted])
        self._taken[stage] = demand, chosen
        if shared is not None:
            self._shared[stage] = shared
            return {GPUS: shared}
        return {GPUS: ",".join(chosen), **self._share_of_cores(len(chosen))} if chosen else {}

    def _gpu_to_share(self, busy: set[str]) -> str | None:
        """Return the GPU with the fewest sharers, one without a training first; None where each has enough."""
        sharers = Counter(self._shared.values())
        open_ones = [gpu for gpu in self.gpus if sharers[gpu] < SHARERS]
        return min(open_ones, key=lambda gpu: (gpu in busy, sharers[gpu]), default=None)

    def _share_of_cores(self, gpus: int) -> dict[str, str]:
        share = max(1, self.cores * gpus // len(self.gpus))
        return {WORKERS: str(share)} if self.jobs > 1 and share < self.cores else {}

    def give_back(self, stage: str) -> None:
        """Return what a stage has taken."""
        self._taken.pop(stage, None)
        self._shared.pop(stage, None)


def this_machine(jobs: int | None = None, environment: Mapping[str, str] = os.environ) -> Machine:
    """Return what this machine has.

    Args:
        jobs: how many stages may run at once; None takes as many as the cores allow, at `threads()` cores a stage.
        environment: environment variables, of which CUDA_VISIBLE_DEVICES may leave out GPUs.
    """
    return Machine(jobs or max(1, cores() // threads()), memory_limit(), visible_gpus(environment), cores())


def visible_gpus(environment: Mapping[str, str], nvidia: Path = _NVIDIA) -> tuple[str, ...]:
    """Return the GPUs that CUDA would show, as CUDA_VISIBLE_DEVICES names them.

    Args:
        environment: environment variables.
        nvidia: the folder in which NVIDIA's driver lists its GPUs.
    """
    count = len(list(nvidia.iterdir())) if nvidia.is_dir() else 0
    if GPUS not in environment:
        return tuple(map(str, range(count)))
    named = [name.strip() for name in environment[GPUS].split(",")]
    valid = named[: named.index("-1")] if "-1" in named else named  # CUDA stops at the first that is not there
    return tuple(name for name in valid if name) if count else ()
