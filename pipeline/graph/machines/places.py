"""Where stages run: all of them on this machine, or most of them on the workers of a Dask scheduler."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.graph import dvc
from pipeline.graph.definition import Graph
from pipeline.graph.dvc_output import Outcome
from pipeline.graph.jobs.demands import demands_of
from pipeline.graph.jobs.loaded_dvc import LoadedDvc
from pipeline.graph.jobs.machine import Demand, Machine
from pipeline.graph.machines.placement import WithWorkers, stages_that_stay
from pipeline.graph.workspace import Say
from reprise.config.dvc_file import Stage
from reprise.config.errors import MachineError, ParameterError

if TYPE_CHECKING:
    from pipeline.graph.machines.leader import Workers

Lines = tuple[Callable[[str], None], Callable[[str], None]]


class Elsewhere(NamedTuple):
    """Other machines that may compute stages.

    Attributes:
        address: of the Dask scheduler that their workers have joined.
        share_seconds: how often they send checkpoints of trainings to the remote; None for never.
    """

    address: str
    share_seconds: float | None = None


def elsewhere_of(address: str | None, share_seconds: float | None) -> Elsewhere | None:
    """Return the other machines that a person asks for, or None for none.

    Args:
        address: of the Dask scheduler; None or an empty text for none.
        share_seconds: see `Elsewhere`.

    Raises:
        ParameterError: checkpoints are to be shared, and nobody is there to share them with; or it is no time.
    """
    if share_seconds is not None and not math.isfinite(share_seconds):
        raise ParameterError(
            "the time between two checkpoints must be a finite number",
            where="share_checkpoints",
            found=share_seconds,
            fix="Write seconds, such as 300, or leave it out.",
        )
    if address:
        return Elsewhere(address, share_seconds)
    if share_seconds is not None:
        raise ParameterError(
            "checkpoints are shared between workers only",
            where="share_checkpoints",
            found="no workers",
            fix="Name the scheduler as well: `--workers tcp://HOST:8786`, or leave --share-checkpoints out.",
        )
    return None


@dataclass(frozen=True)
class Places:
    """Where the stages of one run may run; `places_for` makes them.

    Attributes:
        machine: what there is, for the scheduler of stages.
        demands: what stages need, by name.
        root: the project folder.
        loaded: what runs DVC here.
        workers: the workers, if there are any.
        stay: names of stages that run here although there are workers.
    """

    machine: Machine
    demands: Mapping[str, Demand]
    root: Path
    loaded: LoadedDvc
    workers: Workers | None = None
    stay: frozenset[str] = frozenset()

    def run(
        self,
        stage: Stage,
        *,
        on_each_line: Lines,
        cancelled: threading.Event,
        variables: Mapping[str, str],
        pull: bool = False,
        force: bool = False,
    ) -> tuple[Outcome, str]:
        """Run one stage, here or on a worker; any thread may call this.

        Args:
            stage: the stage.
            on_each_line: as for `dvc.repro_stage`, like all that follows.
            cancelled: ends the stage.
            variables: for the stage, where it runs here.
            pull: whether to look in the remote first, where it runs here.
            force: whether to run the stage even if nothing changed.

        Returns:
            What DVC did with the stage, and on which machine; an empty text means this one.

        Raises:
            CommandFailed: the stage failed.
            RepriseError: as `dvc.repro_stage` and `Workers.run`.
        """
        if self.workers is not None and stage.name not in self.stay:
            demand = self.demands.get(stage.name, Demand())
            return self.workers.run(stage, demand, on_each_line=on_each_line, cancelled=cancelled, force=force)
        outcome = dvc.repro_stage(
            stage.name,
            self.loaded,
            root=self.root,
            on_each_line=on_each_line,
            cancelled=cancelled,
            variables=variables,
            pull=pull,
            force=force,
        )
        return outcome, ""


@contextmanager
def places_for(
    elsewhere: Elsewhere | None,
    graph: Graph,
    stages: Sequence[Stage],
    machine: Machine,
    loaded: LoadedDvc,
    *,
    root: Path,
    say: Say,
) -> Iterator[Places]:
    """Connect to the workers, if there are to be any, inside the `with` block.

    Args:
        elsewhere: other machines; None runs everything here.
        graph: the graph.
        stages: those that are to run.
        machine: what this machine has.
        loaded: what runs DVC here.
        root: the project folder.
        say: prints a line for people.

    Raises:
        MachineError: Dask is not installed.
        GraphError: no scheduler answers.
        RemoteError: the project has no default remote.
    """
    demands = demands_of(stages, root)
    if elsewhere is None:
        yield Places(machine, demands, root, loaded)
        return
    require_dask()
    from pipeline.graph.machines.leader import workers_of

    stay = stages_that_stay(stages, root)
    here = WithWorkers(machine.jobs, machine.memory, machine.gpus, stay=stay)
    with workers_of(elsewhere.address, graph, root, loaded, say, here, elsewhere.share_seconds) as workers:
        yield Places(here, demands, root, loaded, workers, stay)


def require_dask() -> None:
    """Check that Dask is there.

    Raises:
        MachineError: it is not installed.
    """
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise MachineError(
            "Dask is not installed, over which several machines compute one graph",
            where="the environment",
            found=error,
            fix="Install it: `pip install 'reprise[dask]'`.",
        ) from error
