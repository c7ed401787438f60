"""Run `make serve`: Prefect's server, a work pool and a worker for this folder, until Ctrl-C stops all of them.

A worker that dies is started again, and dead runs are closed once a minute. The server keeps its state in
.reprise/prefect and listens on 127.0.0.1 unless PREFECT_SERVER_API_HOST says otherwise.
"""

from __future__ import annotations

import fcntl
import functools
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from pipeline.flows import dead_runs, server
from pipeline.flows.api_client import call
from pipeline.graph.workspace import Say
from pipeline.processes.commands import GRACE_SECONDS
from pipeline.processes.signals import STOP_SIGNALS, handling
from reprise.artifacts.layout import REPORT
from reprise.config.errors import GraphError, ParameterError, RepriseError, WorkspaceBusyError
from reprise.storage.atomic import write_json

POOL = "reprise"
CLOSE_DEAD_RUNS_SECONDS = 60.0
_RESTART_SECONDS = 2.0
_DEFAULT_PORT = "4200"


def serve(root: Path, say: Say, queues: Sequence[str] = ()) -> None:
    """Start the server and the worker, print their addresses, and keep them running until SIGINT or SIGTERM.

    Args:
        root: the project folder.
        say: prints a line for people.
        queues: work queues from which the worker takes runs; none means all queues of the pool.

    Raises:
        WorkspaceBusyError: Prefect is being served for this folder already.
        GraphError: the port is taken, or the server does not start or has ended.
    """
    host = os.environ.get("PREFECT_SERVER_API_HOST") or server.LOOPBACK
    port = _port()
    local_host = server.LOOPBACK if host in ("0.0.0.0", "::") else host  # noqa: S104 (chosen by the user)
    address = f"http://{local_host}:{port}/api"
    with _hold_serve_lock(root), _stop_on_signals() as stop:
        if not _is_free(host, port):
            raise GraphError(
                "another program listens on the server's port",
                where=f"{host}:{port}",
                found="the port is taken",
                fix="Stop that program, or choose another port: PREFECT_SERVER_API_PORT=4300 make serve.",
            )
        say("starting Prefect's server (the first start takes half a minute) ...")
        process = _start_server(root, host, port)
        try:
            server.await_health(address, process)
            ensure_pool(address)
            with _serve_report(root, local_host, port + 1) as report:
                write_json(root / server.NOTE, {"api": address, "report": report, "process": os.getpid()})
                say(f"Prefect: {address.removesuffix('/api')}   (work pool '{POOL}', state in {server.HOME})")
                say("`make deploy` registers the schedules; Ctrl-C stops everything")
                _supervise(root, address, process, stop, say, queues)
        finally:
            (root / server.NOTE).unlink(missing_ok=True)
            server.stop_process(process)


def ensure_pool(address: str) -> None:
    """Create the work pool unless it exists."""
    pools = call(address, "POST", "/work_pools/filter", {"work_pools": {"name": {"any_": [POOL]}}})
    if not pools:
        call(address, "POST", "/work_pools/", {"name": POOL, "type": "process"})


def deploy(root: Path) -> int:
    """Register the deployments of prefect.yaml, or update those that are registered already.

    Returns:
        The exit status of `prefect deploy`.

    Raises:
        GraphError: no server runs.
    """
    address = os.environ.get("PREFECT_API_URL") or server.find_running_server(root)
    if address is None:
        raise GraphError(
            "no Prefect server runs for this folder",
            where=root / server.NOTE,
            found="no address of a server",
            fix="Run `make serve` in another terminal and wait until it prints its address.",
        )
    ensure_pool(address)
    variables = {**server.prefect_settings(root), "PREFECT_API_URL": address, "PWD": str(root.resolve())}
    process = server.start_child([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], root, variables)
    return process.wait()


def _start_server(root: Path, host: str, port: int) -> subprocess.Popen[bytes]:
    variables = {
        **server.prefect_settings(root),
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT__SERVER_FINAL": "1",
        # Leases kept in memory would be lost with the server, and their concurrency slots would stay occupied.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", host]
    with server.server_log(root) as log:
        return server.start_child([*command, "--port", str(port), "--log-level", "warning"], root, variables, log)


def _start_worker(root: Path, address: str, queues: Sequence[str]) -> subprocess.Popen[bytes]:
    name = f"{POOL}-{socket.gethostname()}"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name]
    command += [word for queue in queues for word in ("--work-queue", queue)]
    variables = {"PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "3")}
    with server.server_log(root, "worker.log") as log:
        return server.start_child(
            command, root, {**server.prefect_settings(root), "PREFECT_API_URL": address, **variables}, log
        )


def _supervise(
    root: Path,
    address: str,
    process: subprocess.Popen[bytes],
    stop: threading.Event,
    say: Say,
    queues: Sequence[str],
) -> None:
    """Restart the worker when it ends, close dead runs regularly, and stop when the server ends.

    Raises:
        GraphError: the server has ended.
    """
    worker = _start_worker(root, address, queues)
    next_closing = 0.0
    try:
        while not stop.wait(0.5):
            if process.poll() is not None:
                raise GraphError(
                    "Prefect's server has ended",
                    where=root / server.HOME / "server.log",
                    found=f"status {process.returncode}",
                    fix="Read the log, then start the server again.",
                )
            if worker.poll() is not None:
                say(f"the worker ended with status {worker.returncode}; starting another one")
                stop.wait(_RESTART_SECONDS)
                worker = _start_worker(root, address, queues)
                next_closing = 0.0
            if time.monotonic() > next_closing:
                next_closing = time.monotonic() + CLOSE_DEAD_RUNS_SECONDS
                _close_dead_runs(root, address, say)
    finally:
        say("stopping the flow runs, then the worker and the server")
        _stop_worker(worker)
        with suppress(RepriseError):
            dead_runs.close_dead_runs(address, root)


def _close_dead_runs(root: Path, address: str, say: Say) -> None:
    try:
        for closed in dead_runs.close_dead_runs(address, root):
            say(str(closed))
    except RepriseError as error:  # the server is busy; the next attempt follows in a minute
        say(str(error))


def _stop_worker(worker: subprocess.Popen[bytes]) -> None:
    """Stop the worker's flow runs, which get time to stop their own processes, and then the worker."""
    with suppress(psutil.NoSuchProcess):
        runs = psutil.Process(worker.pid).children()
        for run in runs:
            with suppress(psutil.Error):
                run.terminate()
        _, alive = psutil.wait_procs(runs, timeout=GRACE_SECONDS + 10)
        for run in alive:
            with suppress(psutil.Error):
                run.kill()
    server.stop_process(worker)


@contextmanager
def _hold_serve_lock(root: Path) -> Iterator[None]:
    """Allow one `serve` per folder.

    Raises:
        WorkspaceBusyError: another one runs.
    """
    with server.server_log(root, "serve.lock") as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkspaceBusyError(
                "Prefect is being served for this folder already",
                where=root / server.HOME,
                found=server.find_running_server(root) or "a server that is starting",
                fix="Use that server, or stop it with Ctrl-C.",
            ) from error
        yield


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT, SIGTERM and SIGHUP set."""
    stop = threading.Event()

    def request(signum: int, frame: FrameType | None) -> None:
        stop.set()

    with handling(STOP_SIGNALS, request):
        yield stop


@contextmanager
def _serve_report(root: Path, host: str, port: int) -> Iterator[str]:
    """Serve the report's folder and nothing else, so that the page of a run can link to it; yield the URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (named by the base class)
            return

    folder = root / REPORT.parent
    handler = functools.partial(Quiet, directory=str(folder.resolve()))
    page = http.server.ThreadingHTTPServer((host, port if _is_free(host, port) else 0), handler)
    threading.Thread(target=page.serve_forever, name="report", daemon=True).start()
    try:
        yield f"http://{host}:{page.server_address[1]}/{REPORT.name}"
    finally:
        page.shutdown()
        page.server_close()


def _port() -> int:
    port = os.environ.get("PREFECT_SERVER_API_PORT") or _DEFAULT_PORT
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ParameterError(
            "a port must be a number from 1 to 65535",
            where="PREFECT_SERVER_API_PORT",
            found=port,
            fix=f"Set it to {_DEFAULT_PORT}, for example.",
        )
    return int(port)


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
