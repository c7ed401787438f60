"""Let workers compute stages, and restore their results here, so that dvc.lock is written by one DVC on one machine.

A stage is one task of Dask's. The scheduler gives it to a worker that has room, and to another one if that worker dies,
as often as `distributed.scheduler.allowed-failures` says (three times). A worker whose clone or environment differs
refuses, and the stage goes to another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed.client import ClosedClientError, FutureCancelledError

from pipeline.graph import dvc
from pipeline.graph.definition import Graph
from pipeline.graph.dvc_output import Outcome
from pipeline.graph.jobs.demands import TRAININGS
from pipeline.graph.jobs.loaded_dvc import LoadedDvc
from pipeline.graph.jobs.machine import Demand
from pipeline.graph.lock_file import read_lock
from pipeline.graph.machines import work
from pipeline.graph.machines.answers import checked, compared, error_of, not_reproduced, other_result, other_than_sent
from pipeline.graph.machines.message import FORM, common_part, inputs_of, message_for, name_of
from pipeline.graph.machines.placement import PLACES, WithWorkers, tokens_for
from pipeline.graph.machines.transfers import Transfers
from pipeline.graph.machines.worker import check_address, no_scheduler
from pipeline.graph.workspace import Say
from pipeline.processes.commands import CommandFailed
from reprise.config.dvc_file import Stage
from reprise.config.errors import GraphError, RemoteError, RepriseError, printable
from reprise.runtime.entry import cores

CONNECT_SECONDS = 30.0
PATIENCE_SECONDS = 300.0  # until a worker comes that may compute a stage
_LOOK_SECONDS, _COUNT_SECONDS = 0.5, 5.0
_MOST_ATTEMPTS = 5  # after answers that nobody waits any more, which another leader's end may cause
_GIVEN_BACK = {"form": FORM, "state": "cancelled", "host": "the scheduler"}
Lines = tuple[Callable[[str], None], Callable[[str], None]]


@dataclass(frozen=True)
class _Asked:
    """How a stage was asked for.

    Attributes:
        demand: what it needs.
        tokens: Dask's resources that were asked for it.
        allowed: addresses of the workers that may take it; None for all.
        began: addresses of the workers that have begun it, the last one last.
    """

    demand: Demand
    tokens: Mapping[str, float]
    allowed: frozenset[str] | None
    began: list[str] = field(default_factory=list)


class Workers:
    """The workers of a scheduler; `workers_of` connects to them. Any thread may call `run`."""

    def __init__(
        self,
        client: Client,
        graph: Graph,
        root: Path,
        loaded: LoadedDvc,
        say: Say,
        here: WithWorkers,
        share_seconds: float | None,
    ) -> None:
        self._here = here
        self._client, self._graph, self._root, self._loaded, self._say = client, graph, root, loaded, say
        self._where = str(client.scheduler.address if client.scheduler else "the scheduler")
        self._transfers, self._common = Transfers(root, loaded), common_part(root)
        self._sent: set[str] = set()
        self._sending, self._restoring = threading.Lock(), threading.BoundedSemaphore(cores())
        self._share_seconds = share_seconds
        self._refusals: dict[str, RepriseError] = {}  # by the address of the worker
        self.patience = PATIENCE_SECONDS

    def send(self, names: list[str], cancelled: threading.Event) -> None:
        """Send results of stages that the remote may not have yet.

        Raises:
            RemoteError: they cannot be sent.
        """
        with self._sending:
            new = [name for name in names if name not in self._sent]
            self._transfers.send(new, cancelled)
            if not cancelled.is_set():
                self._sent.update(new)

    def run(
        self, stage: Stage, demand: Demand, *, on_each_line: Lines, cancelled: threading.Event, force: bool = False
    ) -> tuple[Outcome, str]:
        """Let a worker compute a stage, and restore its results here.

        Args:
            stage: the stage, whose inputs are up to date here.
            demand: what it needs of a worker.
            on_each_line: called with each line of output, and of error output.
            cancelled: takes the wish back when another thread sets it; the worker then ends the stage.
            force: whether to run the stage even if nothing changed.

        Returns:
            What DVC did with the stage on the worker, and where that was.

        Raises:
            CommandFailed: the stage failed, or nobody waits for it any more.
            GraphError: no worker may compute it, or the scheduler is gone.
            RemoteError: results cannot be sent or fetched.
        """
        lock = read_lock(self._root)
        recorded = lock.get(stage.name) if force else None
        options = {"force": force, "share_seconds": self._share_seconds, "demand": vars(demand), "recorded": recorded}
        message = message_for(stage, self._graph, lock, self._common, self._root, **options)
        if not force and self._transfers.fetch_known(stage.name, cancelled):
            self._drop_checkpoints(stage, message, on_each_line, cancelled)  # of a leader that ended before it could
            return self._repro(stage, on_each_line, cancelled), ""
        self.send(sorted(self._graph.upstream(stage.name)), cancelled)
        answer = self._answer(message, demand, on_each_line, cancelled)
        lines = not_reproduced(recorded, answer["entry"])
        known = not lines and self._transfers.fetch_known(stage.name, cancelled)
        # The result is here, or nobody may go on from what led to it. After a kill here, the next run comes here again.
        self._drop_checkpoints(stage, message, on_each_line, cancelled)
        if lines:
            raise other_result(stage.name, answer["host"], lines)
        if known:
            return self._restore(stage, answer, on_each_line, cancelled)
        return self._run_here(stage, demand, answer["host"], on_each_line, cancelled, force)

    def _drop_checkpoints(
        self, stage: Stage, message: Mapping[str, Any], on_each_line: Lines, cancelled: threading.Event
    ) -> None:
        """Remove what workers have shared of a training that has ended."""
        if self._share_seconds is None or stage.entry not in TRAININGS:
            return
        try:
            self._transfers.call("drop-checkpoints", [inputs_of(message)], cancelled)
        except RemoteError as error:  # what is left harms nobody
            on_each_line[1](f"checkpoints in the remote were not removed: {printable(error, 500)}")

    def _answer(
        self, message: dict[str, Any], demand: Demand, on_each_line: Lines, cancelled: threading.Event
    ) -> dict[str, Any]:
        for _ in range(_MOST_ATTEMPTS + len(self._known_workers())):
            if cancelled.is_set():
                break
            answer = self._ask(message, demand, on_each_line, cancelled)
            if answer is None:
                break
            if answer["state"] == "done":
                return answer
            if answer["state"] == "failed":
                raise CommandFailed(["reprise", "worker", message["stage"]], answer["status"], answer["lines"])
            if answer["state"] == "error":
                raise error_of(answer)
            if answer["state"] == "refused":
                self._refuse(answer)
        if cancelled.is_set():
            raise CommandFailed(["reprise", "worker", message["stage"]], 143, ["the stage was ended"])
        raise GraphError(
            "workers gave this stage back again and again",
            where=message["stage"],
            found=f"{_MOST_ATTEMPTS} attempts",
            fix="Look into the output of the workers, and run again.",
        )

    def _refuse(self, answer: Mapping[str, Any]) -> None:
        """Leave a worker out that refused; say why, once."""
        error = error_of(answer)
        for line in f"{answer['host']} is left out: {error}".splitlines():
            self._say(line)
        self._refusals[answer["address"]] = error

    def _ask(
        self, message: dict[str, Any], demand: Demand, on_each_line: Lines, cancelled: threading.Event
    ) -> dict[str, Any] | None:
        """Submit the task and wait for its answer; None if the wish was taken back."""
        self._await_scheduler(cancelled)
        known = self._wait_for_workers(demand, cancelled)
        if cancelled.is_set():
            return None
        key = f"{name_of(message)} {len(self._refusals)}"
        tokens = tokens_for(demand, known.values())
        asked = _Asked(demand, tokens, frozenset(known) if self._refusals else None)

        def hear(event: tuple[float, Any]) -> None:
            match event[1]:
                case ["line", str(line), bool(aside)]:
                    on_each_line[int(aside)](line)
                case ["began", str(host), str(address)]:
                    asked.began.append(address)
                    on_each_line[0](f"on {host}")

        self._client.subscribe_topic(key, hear)
        future = self._client.submit(
            work.compute,
            message,
            key,
            key=key,
            resources=tokens,
            workers=sorted(asked.allowed) if asked.allowed is not None else None,
            allow_other_workers=False,
            pure=False,
        )
        try:
            return self._await(future, asked, cancelled)
        finally:
            with suppress(ValueError, ClosedClientError):
                self._client.unsubscribe_topic(key)
            future.release()

    def _await(self, future: Future, asked: _Asked, cancelled: threading.Event) -> dict[str, Any] | None:
        counted = time.monotonic()
        while True:
            if cancelled.is_set():
                future.cancel()
                return None
            try:
                return checked(future.result(timeout=_LOOK_SECONDS))
            except TimeoutError:
                if time.monotonic() - counted > _COUNT_SECONDS:
                    if not self._somebody_may(asked, cancelled):
                        future.cancel()
                        return _GIVEN_BACK
                    counted = time.monotonic()
            except KilledWorker as error:
                raise GraphError(
                    "workers ended one after the other while they computed this stage",
                    where=str(error.task),
                    found=f"the last was {getattr(error.last_worker, 'address', 'unknown')}",
                    fix="Look why they end (`dmesg` tells of a lack of memory), and run again.",
                ) from error
            except (FutureCancelledError, OSError):  # the connection was lost
                self._await_scheduler(cancelled)
                return _GIVEN_BACK
            except Exception as error:  # what another program on that worker raises
                raise GraphError(
                    "a worker failed at something else than the stage",
                    where=self._where,
                    found=f"{type(error).__name__}: {error}",
                    fix="One version of Reprise must be installed for `reprise worker` and where the scheduler runs.",
                ) from error

    def _await_scheduler(self, cancelled: threading.Event) -> None:
        """Wait until Dask's client is connected again, which it tries by itself for CONNECT_SECONDS.

        Raises:
            GraphError: it has given up.
        """
        while self._client.status == "connecting" and not cancelled.is_set():
            cancelled.wait(_LOOK_SECONDS)
        if self._client.status != "running" and not cancelled.is_set():
            raise GraphError(
                "the Dask scheduler has ended",
                where=self._where,
                found=f"no answer for {CONNECT_SECONDS:.0f} s",
                fix="Start it and the workers again, and run again; what has arrived is kept.",
            )

    def _somebody_may(self, asked: _Asked, cancelled: threading.Event) -> bool:
        """Return whether the stage runs on a worker, or one that is there may take it as it was asked for.

        Workers come and go, and Dask keeps a task for the workers and the room that it was submitted with.

        Raises:
            GraphError: no worker is there any more, and none has come.
        """
        if asked.began and asked.began[-1] in self._all_workers():
            return True
        known = self._wait_for_workers(asked.demand, cancelled)
        return cancelled.is_set() or any(
            all(room.get(name, 0.0) >= number for name, number in asked.tokens.items())
            for address, room in known.items()
            if asked.allowed is None or address in asked.allowed
        )

    def _all_workers(self) -> dict[str, dict[str, float]]:
        """Return the resources of the workers, by address."""
        with suppress(OSError, TimeoutError):
            workers = self._client.scheduler_info()["workers"]
            return {
                address: dict(worker["resources"])
                for address, worker in workers.items()
                if worker["resources"].get(PLACES)
            }
        return {}

    def _known_workers(self) -> dict[str, dict[str, float]]:
        """Return the resources of the workers that have not refused, by address."""
        return {address: room for address, room in self._all_workers().items() if address not in self._refusals}

    def _wait_for_workers(self, demand: Demand, cancelled: threading.Event) -> dict[str, dict[str, float]]:
        """Return the workers that may compute a stage, and wait for one where there is none.

        Raises:
            GraphError: none has come.
        """
        end = time.monotonic() + self.patience
        said = False
        while not (known := self._known_workers()) and not cancelled.is_set():
            self._await_scheduler(cancelled)
            if self._refusals or time.monotonic() > end:
                break
            if not said:
                self._say(f"no worker may compute: waiting {self.patience:.0f} s for `reprise worker {self._where}`")
                said = True
            cancelled.wait(_LOOK_SECONDS)
        if known or cancelled.is_set():
            return known
        if self._refusals:
            raise next(iter(self._refusals.values()))
        raise GraphError(
            "no worker has come",
            where=self._where,
            found=f"no `reprise worker` within {self.patience:.0f} s",
            fix=f"Start some in clones of this project: `reprise worker {self._where}`, or run without --workers.",
        )

    def _restore(
        self, stage: Stage, answer: Mapping[str, Any], on_each_line: Lines, cancelled: threading.Event
    ) -> tuple[Outcome, str]:
        """Let DVC restore what a worker has sent, and compare it with what the worker says."""
        outcome = self._repro(stage, (lambda line: None, on_each_line[1]), cancelled)
        entry = read_lock(self._root)[stage.name]
        self._sent.add(stage.name)
        if lines := compared(entry, answer["entry"]):
            raise other_than_sent(stage.name, answer["host"], lines)
        said = (each for each in Outcome if each.value == answer["outcome"])
        return next(said, outcome), str(answer["host"])

    def _run_here(
        self, stage: Stage, demand: Demand, host: str, on_each_line: Lines, cancelled: threading.Event, force: bool
    ) -> tuple[Outcome, str]:
        """Run a stage on this machine, once it has room: the worker has sent no result that fits its inputs."""
        on_each_line[1](f"{host} sent no result that fits these inputs, so the stage runs here")
        with self._here.room_here(stage.name, demand, cancelled) as variables:
            if variables is None:
                raise CommandFailed(["reprise", "worker", stage.name], 143, ["the stage was ended"])
            outcome = dvc.repro_stage(
                stage.name,
                self._loaded,
                root=self._root,
                on_each_line=on_each_line,
                cancelled=cancelled,
                variables=variables,
                force=force,
            )
        return outcome, "here"

    def _repro(self, stage: Stage, on_each_line: Lines, cancelled: threading.Event) -> Outcome:
        """Let DVC restore a stage whose outputs are in the cache."""
        with self._restoring:
            return dvc.repro_stage(
                stage.name, self._loaded, root=self._root, on_each_line=on_each_line, cancelled=cancelled
            )


@contextmanager
def workers_of(
    address: str,
    graph: Graph,
    root: Path,
    loaded: LoadedDvc,
    say: Say,
    here: WithWorkers,
    share_seconds: float | None = None,
) -> Iterator[Workers]:
    """Connect to the workers of a scheduler inside the `with` block; at its end, no stage of this leader runs on.

    Args:
        address: of Dask's scheduler.
        graph: the graph.
        root: the project folder.
        loaded: what runs DVC here.
        say: prints a line for people.
        here: what this machine has, for stages of which a worker sent no result.
        share_seconds: how often workers send checkpoints of trainings to the remote; None for never.

    Raises:
        GraphError: no scheduler answers.
        RemoteError: the project has no default remote.
    """
    check_address(address, "client")
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="reprise")
    except (OSError, TimeoutError, ValueError) as error:
        raise no_scheduler(address, error, CONNECT_SECONDS) from error
    try:
        yield Workers(client, graph, root, loaded, say, here, share_seconds)
    finally:
        client.close(timeout=_COUNT_SECONDS)
