"""Compute stages for leaders in one clone: put their parameters in place, fetch what a stage reads, run it, send it.

Stages of one set of parameters run beside each other; a stage of another set waits until they have ended, because a
folder can hold one params.yaml only. The clone belongs to the worker: it holds the folder's run lock all the time.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.graph import dvc
from pipeline.graph.definition import load_graph
from pipeline.graph.jobs.loaded_dvc import LoadedDvc
from pipeline.graph.jobs.machine import Demand, Machine
from pipeline.graph.lock_file import put_entries, read_lock
from pipeline.graph.machines.answers import not_reproduced
from pipeline.graph.machines.checkpoints import shared
from pipeline.graph.machines.message import FORM, TRAVELLING, differences, inputs_of, refusal
from pipeline.graph.machines.transfers import Transfers
from pipeline.graph.prune import prune
from pipeline.graph.workspace import hold_dvc_lock
from pipeline.processes.commands import CommandFailed
from pipeline.processes.redaction import make_redactor
from reprise.config.errors import GraphError, RemoteError, RepriseError
from reprise.storage.atomic import atomic_file, write_json
from reprise.storage.system.refusals import refusal as refusal_of

PLACED = Path(".reprise/machines/placed.json")  # SHA-256 of the files that a leader put here
_LOOK_SECONDS = 0.2
OnLine = Callable[[str, bool], None]  # a line, and whether it is of the error output


class Ended(Exception):
    """Nobody waits for the stage any more."""


@dataclass
class Clone:
    """The folder of a worker.

    Attributes:
        root: the folder.
        loaded: what runs DVC.
        machine: what there is for stages.
        host: how this worker is called in what people read.
    """

    root: Path
    loaded: LoadedDvc
    machine: Machine
    host: str
    _state: str = ""
    _users: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._transfers, self._hide = Transfers(self.root, self.loaded), make_redactor(self.root)

    def compute(self, message: Mapping[str, Any], on_line: OnLine, cancelled: threading.Event) -> dict[str, Any]:
        """Run the stage of a message, and return the answer as plain data; no error leaves this function.

        Args:
            message: see `pipeline.graph.machines.message`.
            on_line: called with each line of output, without secrets.
            cancelled: ends the stage when another thread sets it.
        """
        began = time.monotonic()
        try:
            lines = differences(message, self.root)
            if lines:
                return self._answer("refused", error=_parts(refusal(lines, self.host)))
            with self._inputs_of(message, cancelled), self._room_for(message, cancelled) as variables:
                done = self._run(message, variables, on_line, cancelled)
        except Ended:
            return self._answer("cancelled")
        except CommandFailed as error:
            if cancelled.is_set():
                return self._answer("cancelled")
            return self._answer("failed", status=error.status, lines=[self._hide(line) for line in error.lines])
        except RepriseError as error:
            transient = isinstance(error, RemoteError) and error.transient
            return self._answer("error", error=_parts(error, self._hide), transient=transient)
        except OSError as error:  # for the leader, an OSError of Dask's is a lost connection
            return self._answer("error", error=_parts(_of_system(error, self.host), self._hide))
        return self._answer("done", seconds=time.monotonic() - began, **done)

    def _answer(self, state: str, **facts: Any) -> dict[str, Any]:
        return {"form": FORM, "state": state, "host": self.host, **facts}

    def _run(
        self, message: Mapping[str, Any], variables: Mapping[str, str], on_line: OnLine, cancelled: threading.Event
    ) -> dict[str, Any]:
        name, entries = message["stage"], message["entries"]
        graph = load_graph(self.root)
        if name not in graph.by_name or graph.upstream(name) - entries.keys():
            raise GraphError(
                "the leader asks for a stage without saying what it reads",
                where=self.host,
                found=f"{name}, with entries of {', '.join(entries) or 'nothing'}",
                fix="Run `reprise repro` on the leader's machine without --workers, and report this.",
            )
        with hold_dvc_lock(self.root):
            put_entries({up: entries[up] for up in graph.upstream(name)}, self.root, drop=[name])
        self._transfers.fetch(sorted(graph.upstream(name)), cancelled)
        if cancelled.is_set():
            raise Ended

        def say(line: str) -> None:
            on_line(self._hide(line), False)

        def say_aside(line: str) -> None:
            on_line(self._hide(line), True)

        seconds = message["options"].get("share_seconds")
        with shared(graph.by_name[name], inputs_of(message), seconds, self._transfers, self.root, say_aside):
            outcome = dvc.repro_stage(
                name,
                self.loaded,
                root=self.root,
                on_each_line=(say, say_aside),
                cancelled=cancelled,
                variables={"REPRISE_THREADS": str(int(message["threads"])), **variables},
                force=bool(message["options"].get("force")),
            )
        entry = read_lock(self.root)[name]
        if not not_reproduced(message["options"].get("recorded"), entry):  # else others would find two results
            self._transfers.send([name], cancelled)
        if cancelled.is_set():
            raise Ended
        return {"outcome": outcome.value, "entry": entry}

    @contextmanager
    def _inputs_of(self, message: Mapping[str, Any], cancelled: threading.Event) -> Iterator[None]:
        """Have the leader's parameters in the folder inside the `with` block."""
        files = {name: data for name, data in message["travelling"].items() if name in TRAVELLING}
        state = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
        with self._changed:
            while self._users and self._state != state:
                if cancelled.is_set():
                    raise Ended
                self._changed.wait(_LOOK_SECONDS)
            if self._state != state:
                self._place(files)
                self._state = state
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def _place(self, files: Mapping[str, bytes]) -> None:
        self._state = ""
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        write_json(self.root / PLACED, digests)
        for name in TRAVELLING:
            if name in files:
                with atomic_file(self.root / name) as file:
                    file.write(files[name])
            else:
                (self.root / name).unlink(missing_ok=True)
        prune(load_graph(self.root), self.root)  # a folder that a stage reads must not hold more than the leader's

    @contextmanager
    def _room_for(self, message: Mapping[str, Any], cancelled: threading.Event) -> Iterator[Mapping[str, str]]:
        """Take what the stage needs of this machine; Dask's resources see to it that there is room."""
        demand = Demand(**message["options"]["demand"])
        key = f"{message['stage']} {threading.get_ident()}"
        while True:
            with self._changed:
                variables = self.machine.take(key, demand)
            if variables is not None:
                break
            if cancelled.wait(_LOOK_SECONDS):
                raise Ended
        try:
            yield variables
        finally:
            with self._changed:
                self.machine.give_back(key)


def _of_system(error: OSError, where: object) -> RepriseError:
    return refusal_of(error) or GraphError(
        "a worker could not read or write a file",
        where=where,
        found=error,
        fix="Look into the folder of that worker, and run again.",
    )


def _parts(error: RepriseError, hide: Callable[[str], str] = str) -> dict[str, str]:
    return {name: hide(getattr(error, name)) for name in ("what", "where", "found", "fix")}
