"""Serve a clone to the leaders of a Dask scheduler: a Dask worker in this process, whose tasks are stages.

Dask's own nanny is left out: a stage is a process of its own already, and what started this process starts it again.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from distributed import Status, Worker
from distributed.security import Security
from distributed.utils import get_ip, get_ipv6

from pipeline.graph.jobs.loaded_dvc import loaded_dvc
from pipeline.graph.jobs.machine import Machine, this_machine
from pipeline.graph.machines import checkpoints, work
from pipeline.graph.machines.clone import PLACED, Clone
from pipeline.graph.machines.message import TRAVELLING, digest_of_file
from pipeline.graph.machines.placement import tokens_of
from pipeline.graph.workspace import STATE, Say, exclusive, repair_workspace
from pipeline.processes.commands import GRACE_SECONDS
from pipeline.processes.git import git
from pipeline.processes.signals import STOP_SIGNALS
from reprise.config.errors import GraphError, MachineError
from reprise.storage.code.places import link_installed_code

CONNECT_SECONDS = 60.0
_CLOSE_SECONDS = 10.0
_LOOK_SECONDS = 0.2
_SEND_SECONDS = 300.0  # for the last checkpoints of stages that were asked to end
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(address: str, root: Path, *, jobs: int | None = None, memory: int | None = None, say: Say = print) -> None:
    """Compute stages in this clone until a signal arrives or the scheduler ends.

    Args:
        address: of Dask's scheduler ("tcp://HOST:8786", "tls://HOST:8786").
        root: the clone. It belongs to the worker: other runs in it wait or give up.
        jobs: how many stages may run at once; None takes as many as the cores allow.
        memory: bytes that they may take together; None takes what the machine has.
        say: prints a line for people.

    Raises:
        WorkspaceBusyError: another run holds the folder.
        RemoteError: the clone has no default remote.
        GraphError: files that leaders replace have edits of a person, or no scheduler answers.
    """
    check_address(address, "worker")
    with exclusive(root, wait=False, say=say):
        _refuse_edits(root)
        link_installed_code(root)
        repair_workspace(root, say)
        checkpoints.clear(root)
        machine = this_machine(jobs)
        machine.memory = memory or machine.memory
        with loaded_dvc(root) as loaded:
            host = f"{platform.node()}:{root.resolve()}"
            work.serve(Clone(root, loaded, machine, host))
            if urlsplit(address).scheme != "tls" and urlsplit(address).hostname not in _LOOPBACK:
                say(f"{address} has no TLS: whoever reaches the scheduler can run programs on this machine")
            asyncio.run(_serve(address, root, machine, host, say))


def no_scheduler(address: str, error: Exception, seconds: float) -> GraphError:
    """Return the error that says that nothing answered at an address within some seconds."""
    return GraphError(
        "no Dask scheduler answers",
        where=address,
        found=str(error) or f"nothing within {seconds:.0f} s",
        fix="Start one: `dask scheduler --host HOST --port 8786`, and check the address and the firewall.",
    )


def check_address(address: str, role: Literal["client", "worker"]) -> None:
    """Refuse what is no address of a scheduler, and TLS without certificates.

    Args:
        address: what a person wrote.
        role: as whom this process will speak to the scheduler; Dask has settings for each.

    Raises:
        GraphError: it is none, or Dask's settings do not fit it.
    """
    parts = urlsplit(address)
    with suppress(ValueError):
        if parts.scheme in ("tcp", "tls") and parts.hostname and parts.port:
            _check_certificates(address, parts.scheme, role)
            return
    raise GraphError(
        "this is no address of a Dask scheduler",
        where="the address of the scheduler",
        found=address,
        fix="Write tcp://HOST:PORT or tls://HOST:PORT, as `dask scheduler` prints it.",
    )


def _check_certificates(address: str, scheme: str, role: Literal["client", "worker"]) -> None:
    """Refuse TLS without certificates, and an address without TLS where Dask's settings ask for it.

    Raises:
        GraphError: in a sentence what Dask would say by a traceback.
    """
    settings = f"distributed.comm.tls.ca-file, distributed.comm.tls.{role}.cert and distributed.comm.tls.{role}.key"
    try:
        security = Security()
        found = None if security.get_connection_args(role)["ssl_context"] is not None else "none"
    except (OSError, ValueError, TypeError) as error:  # a file is missing, or is no certificate
        security, found = None, str(error)
    if scheme == "tls" and found is not None:
        raise GraphError(
            "TLS needs certificates, which Dask's settings name",
            where=address,
            found=found,
            fix=f"Set {settings} in ~/.config/dask/distributed.yaml, as for the scheduler.",
        )
    if scheme == "tcp" and security is not None and security.require_encryption:
        raise GraphError(
            "Dask's settings ask for encryption, which this address has not",
            where=address,
            found="tcp://, and distributed.comm.require-encryption",
            fix="Write tls:// in its place.",
        )


async def _serve(address: str, root: Path, machine: Machine, host: str, say: Say) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    own = _own_address(address)
    worker = Worker(
        address,
        nthreads=machine.jobs,
        host=own,  # Dask's default is every address of the machine, whatever the scheduler's is
        dashboard_address="127.0.0.1:0",
        name=f"{host} {os.getpid()}",
        resources=tokens_of(machine),
        local_directory=str((root / STATE / "dask").absolute()),
        memory_limit=0,  # stages are processes of their own
        dashboard=False,
        http_prefix="",
    )
    try:
        await asyncio.wait_for(worker.start(), CONNECT_SECONDS)
    except (OSError, TimeoutError, RuntimeError) as error:
        raise no_scheduler(address, error, CONNECT_SECONDS) from error
    gpus = f", GPUs {', '.join(machine.gpus)}" if machine.gpus else ""
    say(f"computing for {address}: {machine.jobs} stage{'s' if machine.jobs != 1 else ''} at once{gpus}")
    ended = asyncio.create_task(worker.finished())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not ended.done():
        await _end_stages(worker)
    with suppress(TimeoutError, OSError):
        await asyncio.wait_for(worker.close(timeout=_CLOSE_SECONDS, nanny=False), 6 * _CLOSE_SECONDS)
    if not stop.is_set():
        raise MachineError(
            "the connection to the Dask scheduler has ended",
            where=address,
            found="no answer any more",
            fix="Start `reprise worker` again once the scheduler runs; unfinished trainings continue from their "
            "checkpoints.",
        )
    say("the worker has ended; what it computed is sent, and unfinished trainings keep their checkpoints")


async def _end_stages(worker: Worker) -> None:
    """End the stages while the scheduler still knows this worker: the next one then finds their last checkpoints."""
    worker.status = Status.closing_gracefully  # takes no stage any more; `work.compute` ends those that run
    end = time.monotonic() + GRACE_SECONDS + _SEND_SECONDS
    while worker.state.executing_count and worker.status is Status.closing_gracefully:
        if time.monotonic() > end:
            break
        await asyncio.sleep(_LOOK_SECONDS)


def _own_address(address: str) -> str:
    """Return the address of this machine from which the scheduler is reached."""
    host = urlsplit(address).hostname or ""
    return str(get_ipv6(host) if ":" in host else get_ip(host))


def _refuse_edits(root: Path) -> None:
    """Refuse a clone in which somebody has edited what leaders replace.

    Raises:
        GraphError: a file differs from the commit and is not what a leader put there.
    """
    placed: Any = {}
    with suppress(OSError, ValueError):
        placed = json.loads((root / PLACED).read_text(encoding="utf-8"))
    placed = placed if isinstance(placed, dict) else {}
    status = git("status", "--porcelain", "--no-renames", "--", *TRAVELLING, cwd=root)
    names = [line[3:].rsplit("/", 1)[-1] for line in status.splitlines()]
    edited = [name for name in names if placed.get(name, "missing") != digest_of_file(root / name)]
    if edited:
        raise GraphError(
            "leaders would replace files of this clone that somebody has edited",
            where=root.resolve(),
            found=", ".join(edited),
            fix="Commit or undo the edits, or serve a clone of its own: `git clone`.",
        )
