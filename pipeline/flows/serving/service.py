"""Run `make serve`: Prefect's server, a work pool and a worker for this folder, until Ctrl-C stops all of them.

A worker that dies is started again, and dead runs are closed once a minute. The server keeps its state in
.reprise/prefect and listens on 127.0.0.1 unless PREFECT_SERVER_API_HOST says otherwise. It asks for a password that is
made anew at each start: whoever listens on its port after its end learns nothing that opens the next server.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from pipeline.flows import dead_runs
from pipeline.flows.api_client import call, check_access
from pipeline.flows.serving import credentials, server
from pipeline.flows.serving.guarded_server import PAGES_API_VARIABLE
from pipeline.flows.serving.own_pages import LOOPBACK_NAMES, OwnNames, host_name
from pipeline.flows.serving.report_page import serve_report
from pipeline.graph.workspace import Say
from pipeline.processes.commands import GRACE_SECONDS
from pipeline.processes.signals import STOP_SIGNALS, handling
from reprise.config.errors import GraphError, ParameterError, RepriseError, WorkspaceBusyError
from reprise.storage.locks import FileLock

POOL = "reprise"
CLOSE_DEAD_RUNS_SECONDS = 60.0
_RESTART_SECONDS = 2.0
_DEFAULT_PORT = "4200"
_ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 (chosen by the user)
_ORIGIN_VARIABLES = ("PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS", "PREFECT_SERVER_CORS_ALLOWED_ORIGINS")
_PAGES_API_VARIABLES = (PAGES_API_VARIABLE, "PREFECT_UI_API_URL")


def serve(root: Path, say: Say, queues: Sequence[str] = ()) -> None:
    """Start the server and the worker, print their addresses, and keep them running until SIGINT or SIGTERM.

    Args:
        root: the project folder.
        say: prints a line for people.
        queues: work queues from which the worker takes runs; none means all queues of the pool.

    Raises:
        WorkspaceBusyError: Prefect is being served for this folder already.
        GraphError: the port is taken, or the server does not start or has ended.
        ParameterError: a variable for the server cannot be used.
    """
    host = os.environ.get("PREFECT_SERVER_API_HOST") or server.LOOPBACK
    port = _port()
    local_host = server.LOOPBACK if host in _ALL_ADDRESSES else host
    names = own_names(host)
    chosen = credentials.configured_password()
    password = chosen or credentials.make_password()
    base = server.url(local_host, port)
    with ExitStack() as stack:
        stack.enter_context(_hold_serve_lock(root))
        stop = stack.enter_context(_stop_on_signals())
        stack.enter_context(server.with_variables(server.api_variables(f"{base}/api", password)))
        with server.listening(host, port) as listener:
            say("starting Prefect's server (the first start takes half a minute) ...")
            process = server.start_server(root, listener, password, names, _server_settings())
        try:
            server.await_health(f"{base}/api", process, stop=stop)
            if stop.is_set():
                return
            ensure_pool(f"{base}/api")
            report = stack.enter_context(_report(root, local_host, port + 1, names))
            if chosen is None:
                credentials.write_secret(root / credentials.PASSWORD, password)
            server.write_note(root, f"{base}/api", report, chosen_password=chosen is not None)
            say(f"Prefect: {base}   (work pool '{POOL}', state in {server.HOME})")
            _explain_access(say, host, chosen is not None)
            say("`reprise flows deploy` registers the schedules; Ctrl-C stops everything")
            _supervise(root, f"{base}/api", process, stop, say, queues)
        finally:
            for path in (server.NOTE, credentials.PASSWORD):
                (root / path).unlink(missing_ok=True)
            # Its database survives a kill. While it starts, it listens to no signal.
            server.stop_process(process, server.INTERRUPTED_SECONDS if stop.is_set() else 10.0)


def own_names(host: str) -> OwnNames:
    """Return the names under which browsers and clients may reach the server.

    Args:
        host: the name or address on which the server listens.

    Raises:
        ParameterError: PREFECT_SERVER_CORS_ALLOWED_ORIGINS, where the user names further origins, names no origins.
    """
    hosts = {*LOOPBACK_NAMES, host_name(f"[{host}]" if ":" in host else host) or host} - set(_ALL_ADDRESSES)
    if host in _ALL_ADDRESSES:
        addresses = [address for each in psutil.net_if_addrs().values() for address in each]
        hosts |= {
            a.address.partition("%")[0].lower() for a in addresses if a.family in (socket.AF_INET, socket.AF_INET6)
        }
        hosts |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    origins = set()
    for variable in _ORIGIN_VARIABLES:
        for origin in filter(None, (word.strip().rstrip("/") for word in os.environ.get(variable, "").split(","))):
            scheme, _, place = origin.partition("://")
            name = host_name(place)
            if scheme not in ("http", "https") or name is None:
                raise ParameterError(
                    "the server answers only pages of origins that are named one by one",
                    where=variable,
                    found=origin,
                    fix="Name what the browser shows, such as https://prefect.example.org, or unset the variable.",
                )
            origins.add(origin.lower())
            hosts.add(name)
    return OwnNames(frozenset(hosts), frozenset(origins))


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
    with server.with_variables(server.client_variables(root)):
        address = os.environ.get("PREFECT_API_URL")
        if not address:
            raise GraphError(
                "no Prefect server runs for this folder",
                where=root / server.NOTE,
                found="no address of a server",
                fix="Run `reprise flows serve` in another terminal and wait until it prints its address.",
            )
        check_access(address)
        ensure_pool(address)
        variables = {**server.prefect_settings(root), "PWD": str(root.resolve())}
        command = [sys.executable, "-P", "-m", "prefect", "--no-prompt", "deploy", "--all"]
        return server.start_child(command, root, variables).wait()


def _server_settings() -> dict[str, str]:
    """Return settings of the server that a temporary one does not need."""
    return {
        # The pages send their requests to where they come from, whatever name or tunnel leads there.
        PAGES_API_VARIABLE: next(filter(None, map(os.environ.get, _PAGES_API_VARIABLES)), "/api"),
        # Leases kept in memory would be lost with the server, and their concurrency slots would stay occupied.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }


def _explain_access(say: Say, host: str, chosen_password: bool) -> None:
    """Say how to log in, without the password: what the terminal shows may be kept in a log."""
    where = f"the text of {credentials.SERVER_VARIABLE}" if chosen_password else f"the text in {credentials.PASSWORD}"
    say(f"its page asks for a password: {where}" + ("" if chosen_password else f" (`cat {credentials.PASSWORD}`)"))
    if host not in LOOPBACK_NAMES:
        say("other machines can reach this server, and the password travels to it unencrypted")


def _start_worker(root: Path, queues: Sequence[str]) -> subprocess.Popen[bytes]:
    name = f"{POOL}-{socket.gethostname()}"
    command = [sys.executable, "-P", "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    command += ["--name", name]
    command += [word for queue in queues for word in ("--work-queue", queue)]
    variables = {"PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "3")}
    with server.server_log(root, "worker.log") as log:
        return server.start_child(command, root, {**server.prefect_settings(root), **variables}, log)


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
    worker = _start_worker(root, queues)
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
                worker = _start_worker(root, queues)
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
    credentials.make_private_folder(root / server.HOME)
    lock = FileLock(root / server.HOME / "serve.lock")
    try:
        if not lock.take():
            raise WorkspaceBusyError(
                "Prefect is being served for this folder already",
                where=root / server.HOME,
                found=server.find_running_server(root) or f"a server that is starting: {lock.holder()}",
                fix="Use that server, or stop it with Ctrl-C.",
            )
        yield
    finally:
        lock.release()


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT, SIGTERM and SIGHUP set."""
    stop = threading.Event()

    def request(signum: int, frame: FrameType | None) -> None:
        stop.set()

    with handling(STOP_SIGNALS, request):
        yield stop


@contextmanager
def _report(root: Path, host: str, port: int, names: OwnNames) -> Iterator[str]:
    """Serve the report on this port, or on a free one if it is taken; yield the URL of its page."""
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(server.listening(host, port if port < 65536 else 0))
        except GraphError:
            listener = stack.enter_context(server.listening(host, 0))
        path = stack.enter_context(serve_report(root, listener, names, credentials.report_token(root)))
        yield f"{server.url(host, listener.getsockname()[1])}{path}"


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
