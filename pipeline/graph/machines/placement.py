"""Which stages the leader computes itself, and what it asks of a worker for the others.

A stage stays with the leader if dvc.yaml says so (`meta: {local: true}`): it reads what only this machine has, such as
the source of images, or it reads nearly all results and takes seconds. Workers have tokens for places, memory and GPUs
(Dask's resources), and get a stage only while they have what it needs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.graph.jobs.machine import SHARERS, Demand, Machine
from reprise.config.dvc_file import GRAPH_FILE, Stage
from reprise.config.params import read_yaml

PLACES, MEMORY, GPUS = "REPRISE", "REPRISE_MEMORY", "REPRISE_GPU"  # Dask's resources of a worker
_LOOK_SECONDS = 0.2
_MOST_AWAY = 128  # stages that wait for workers at once; each is a thread here, which sleeps


def stages_that_stay(stages: Iterable[Stage], root: Path) -> frozenset[str]:
    """Return the names of the stages that only the leader computes."""
    definitions = read_yaml(root / GRAPH_FILE).get("stages") or {}
    metas = {entry: (definition or {}).get("meta") or {} for entry, definition in definitions.items()}
    return frozenset(
        stage.name
        for stage in stages
        if stage.fingerprints or (isinstance(metas.get(stage.entry), Mapping) and metas[stage.entry].get("local"))
    )


@dataclass
class WithWorkers(Machine):
    """The leader's machine, and workers beside it whose room the scheduler knows. Any thread may call its methods.

    Attributes:
        stay: names of the stages that take what they need of this machine; all others take nothing here.
    """

    stay: frozenset[str] = frozenset()
    _away: set[str] = field(default_factory=set)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def take(self, stage: str, demand: Demand) -> dict[str, str] | None:
        """Take what a stage needs of this machine: nothing if a worker computes it."""
        with self._mutex:
            if stage in self.stay:
                return super().take(stage, demand)
            if len(self._away) >= _MOST_AWAY:
                return None
            self._away.add(stage)
            return {}

    def give_back(self, stage: str) -> None:
        """Return what a stage has taken."""
        with self._mutex:
            self._away.discard(stage)
            super().give_back(stage)

    @contextmanager
    def room_here(self, stage: str, demand: Demand, cancelled: threading.Event) -> Iterator[Mapping[str, str] | None]:
        """Take what a stage of the workers needs of this machine inside the `with` block, after a wait for room.

        Yields:
            Environment variables for the stage; None where it was cancelled before there was room.
        """
        name = f"{stage}, here"  # `take` has its own name, for the time at the workers
        variables = None
        while not cancelled.is_set():
            with self._mutex:
                variables = super().take(name, demand)
            if variables is not None:
                break
            cancelled.wait(_LOOK_SECONDS)
        try:
            yield variables
        finally:
            with self._mutex:
                super().give_back(name)


def tokens_of(machine: Machine) -> dict[str, float]:
    """Return the resources that a worker on this machine offers."""
    memory = {MEMORY: float(machine.memory)} if machine.memory else {}
    return {PLACES: float(machine.jobs), **memory, GPUS: float(len(machine.gpus))}


def tokens_for(demand: Demand, workers: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the resources that a stage needs of a worker.

    What no worker has is asked for as far as the largest one has it, as one machine lets such a stage run alone. A
    stage that may use a GPU goes to a worker with a GPU if there is one at all.

    Args:
        demand: what the stage needs.
        workers: the resources of each worker.
    """
    having = [worker for worker in workers if worker.get(PLACES)]
    with_gpu = [worker for worker in having if worker.get(GPUS)]
    if (demand.gpus or demand.shares_gpu) and with_gpu:
        having = with_gpu
    most = {name: max((worker.get(name, 0.0) for worker in having), default=0.0) for name in (PLACES, MEMORY, GPUS)}
    wanted = {
        PLACES: min(float(demand.places), most[PLACES] or 1.0),
        MEMORY: min(float(demand.memory), most[MEMORY]),
        GPUS: min(float(demand.gpus), most[GPUS]),
    }
    if demand.shares_gpu and with_gpu:
        wanted[GPUS] = 1 / SHARERS
    return {name: number for name, number in wanted.items() if number}
