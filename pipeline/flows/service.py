"""`make serve`: Prefect's server, a work pool and a worker for this folder, as one command that Ctrl-C ends whole.

A worker that dies is started again, and the janitor looks once a minute. The server keeps its state in
.reprise/prefect and listens on 127.0.0.1 unless PREFECT_SERVER_API_HOST says otherwise.
"""

from __future__ import annotations

import fcntl
import functools
import http.server
import os
import signal
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
from pipeline.processes.processes import GRACE_SECONDS
from reprise.config.errors import GraphError, ParameterError, RepriseError, WorkspaceBusyError
from reprise.storage.atomic import write_json

POOL = "reprise"
JANITOR_SECONDS = 60.0
_RESTART_SECONDS = 2.0
_PORT = "4200"


def serve(root: Path, say: Say, queues: Sequence[str] = ()) -> None:
    """Start everything, say where it is, and keep it going until SIGINT or SIGTERM.

    Args:
        queues: of the work pool, from which the worker takes runs; none: from all.

    Raises:
        WorkspaceBusyError: it runs already. GraphError: the port is taken, or the server does not start or has ended.
    """
    host = os.environ.get("PREFECT_SERVER_API_HOST") or server.LOOPBACK
    port = _port()
    near = server.LOOPBACK if host in ("0.0.0.0", "::") else host  # noqa: S104 (asked for by the user)
    address = f"http://{near}:{port}/api"
    with _alone(root), _stop_requested() as stop:
        if not _is_free(host, port):
            raise GraphError(
                "something else listens on the server's port",
                where=f"{host}:{port}",
                found="a listener",
                fix="Stop it, or choose another port: PREFECT_SERVER_API_PORT=4300 make serve.",
            )
        say("starting Prefect's server (the first time takes half a minute) ...")
        process = _start_server(root, host, port)
        try:
            server.await_health(address, process)
            ensure_pool(address)
            with _report_page(root, near, port + 1) as report:
                write_json(root / server.NOTE, {"api": address, "report": report, "process": os.getpid()})
                say(f"Prefect: {address.removesuffix('/api')}   (work pool '{POOL}', state in {server.HOME})")
                say("`make deploy` registers the schedules; Ctrl-C stops everything")
                _keep_working(root, address, process, stop, say, queues)
        finally:
            (root / server.NOTE).unlink(missing_ok=True)
            server.end(process)


def ensure_pool(address: str) -> None:
    """Make the work pool unless it is there."""
    pools = call(address, "POST", "/work_pools/filter", {"work_pools": {"name": {"any_": [POOL]}}})
    if not pools:
        call(address, "POST", "/work_pools/", {"name": POOL, "type": "process"})


def deploy(root: Path) -> int:
    """Register what prefect.yaml states; what is registered already is brought up to date.

    Returns:
        The exit status of `prefect deploy`.

    Raises:
        GraphError: no server runs.
    """
    address = os.environ.get("PREFECT_API_URL") or server.known(root)
    if address is None:
        raise GraphError(
            "no Prefect server runs for this folder",
            where=root / server.NOTE,
            found="nothing",
            fix="`make serve` in another terminal; it says when it is ready.",
        )
    ensure_pool(address)
    variables = {**server.settings(root), "PREFECT_API_URL": address, "PWD": str(root.resolve())}
    process = server.ending_with_this(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], root, variables
    )
    return process.wait()


def _start_server(root: Path, host: str, port: int) -> subprocess.Popen[bytes]:
    variables = {
        **server.settings(root),
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT__SERVER_FINAL": "1",
        # Leases kept in memory are lost with the server, and the places that they stood for stay taken.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", host]
    with server.server_log(root) as log:
        return server.ending_with_this([*command, "--port", str(port), "--log-level", "warning"], root, variables, log)


def _start_worker(root: Path, address: str, queues: Sequence[str]) -> subprocess.Popen[bytes]:
    name = f"{POOL}-{socket.gethostname()}"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name]
    command += [word for queue in queues for word in ("--work-queue", queue)]
    variables = {"PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "3")}
    with server.server_log(root, "worker.log") as log:
        return server.ending_with_this(
            command, root, {**server.settings(root), "PREFECT_API_URL": address, **variables}, log
        )


def _keep_working(
    root: Path,
    address: str,
    process: subprocess.Popen[bytes],
    stop: threading.Event,
    say: Say,
    queues: Sequence[str],
) -> None:
    """Watch server and worker, and let the janitor look now and then."""
    worker = _start_worker(root, address, queues)
    looks = 0.0
    try:
        while not stop.wait(0.5):
            if process.poll() is not None:
                raise GraphError(
                    "Prefect's server has ended",
                    where=root / server.HOME / "server.log",
                    found=f"status {process.returncode}",
                    fix="Read its log, then start it again.",
                )
            if worker.poll() is not None:
                say(f"the worker ended with status {worker.returncode}; starting another")
                stop.wait(_RESTART_SECONDS)
                worker = _start_worker(root, address, queues)
                looks = 0.0
            if time.monotonic() > looks:
                looks = time.monotonic() + JANITOR_SECONDS
                _tidy(root, address, say)
    finally:
        say("stopping: flow runs first, then worker and server")
        _end_worker(worker)
        with suppress(RepriseError):
            dead_runs.tidy(address, root)


def _tidy(root: Path, address: str, say: Say) -> None:
    try:
        for closed in dead_runs.tidy(address, root):
            say(str(closed))
    except RepriseError as error:  # the server is busy: the next look is a minute away
        say(str(error))


def _end_worker(worker: subprocess.Popen[bytes]) -> None:
    """Its flow runs are asked to end and have their grace to end what they started; then the worker itself."""
    with suppress(psutil.NoSuchProcess):
        runs = psutil.Process(worker.pid).children()
        for run in runs:
            with suppress(psutil.Error):
                run.terminate()
        _, left = psutil.wait_procs(runs, timeout=GRACE_SECONDS + 10)
        for run in left:
            with suppress(psutil.Error):
                run.kill()
    server.end(worker)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One `serve` a folder."""
    with server.server_log(root, "serve.lock") as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkspaceBusyError(
                "Prefect is being served for this folder already",
                where=root / server.HOME,
                found=server.known(root) or "a server that is starting",
                fix="Use that one, or stop it with Ctrl-C.",
            ) from error
        yield


@contextmanager
def _stop_requested() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set."""
    stop = threading.Event()

    def request(signum: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stop
    finally:
        for number, action in before.items():
            signal.signal(number, action)


@contextmanager
def _report_page(root: Path, host: str, port: int) -> Iterator[str]:
    """Serve the report's folder and nothing else, so that a link on the run page opens it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the name in the base class)
            return

    folder = root / server.REPORT.parent
    handler = functools.partial(Quiet, directory=str(folder.resolve()))
    page = http.server.ThreadingHTTPServer((host, port if _is_free(host, port) else 0), handler)
    threading.Thread(target=page.serve_forever, name="report", daemon=True).start()
    try:
        yield f"http://{host}:{page.server_address[1]}/{server.REPORT.name}"
    finally:
        page.shutdown()
        page.server_close()


def _port() -> int:
    asked = os.environ.get("PREFECT_SERVER_API_PORT") or _PORT
    if not asked.isdigit() or not 0 < int(asked) < 65536:
        raise ParameterError(
            "a port is a number from 1 to 65535", where="PREFECT_SERVER_API_PORT", found=asked, fix="Write 4200."
        )
    return int(asked)


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
