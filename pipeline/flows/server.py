"""Provide the Prefect API that a flow needs: a server that already runs, or a temporary one for a single run.

This module does not import Prefect: a temporary server takes four seconds to start, and Prefect is imported meanwhile.
All state is kept in .reprise/prefect, so runs that had a temporary server are shown by a later server as well.
PREFECT_API_URL and PREFECT_HOME take precedence when set.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.graph.workspace import STATE
from pipeline.processes.commands import PARENT_DEATH, environment
from reprise.artifacts.layout import REPORT
from reprise.config.errors import GraphError
from reprise.storage.atomic import explained_storage

HOME = STATE / "prefect"
NOTE = HOME / "server.json"  # the addresses of the server of `make serve`
LOOPBACK = "127.0.0.1"
START_SECONDS = 180.0  # the first start creates the database


def prefect_settings(root: Path) -> dict[str, str]:
    """Return the environment variables for every Prefect process of this folder."""
    home = os.environ.get("PREFECT_HOME") or str((root / HOME).resolve())
    return {
        "PREFECT_HOME": home,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    }


@dataclass(frozen=True)
class Api:
    """A Prefect API.

    Attributes:
        address: its URL.
        wait: returns when the API answers.
        temporary: whether it ends with this run and therefore has no pages to look at.
    """

    address: str
    wait: Callable[[], None]
    temporary: bool = False


@contextmanager
def connect(root: Path) -> Iterator[Api]:
    """Set PREFECT_API_URL to an API for this process. Enter this before Prefect is imported.

    If no server runs, a temporary one starts in the background: import Prefect, then call `wait()`.

    Raises:
        GraphError: PREFECT_API_URL names a server that does not answer.
    """
    os.environ.update(prefect_settings(root))
    configured = os.environ.get("PREFECT_API_URL")
    if configured and not is_healthy(configured, 5.0):
        raise GraphError(
            "Prefect's server does not answer",
            where="PREFECT_API_URL",
            found=configured,
            fix="Start the server, or unset the variable.",
        )
    running = configured or find_running_server(root)
    if running:
        os.environ["PREFECT_API_URL"] = running
        yield Api(running, lambda: None)
        return
    with temporary_server(root) as started:
        os.environ["PREFECT_API_URL"] = started.address
        try:
            yield started
        finally:
            del os.environ["PREFECT_API_URL"]


@contextmanager
def temporary_server(root: Path) -> Iterator[Api]:
    """Run a server without a user interface inside the `with` block; it also ends when this process does."""
    port = find_free_port()
    address = f"http://{LOOPBACK}:{port}/api"
    variables = {
        **prefect_settings(root),
        "PREFECT_UI_ENABLED": "false",
        "PREFECT__SERVER_EPHEMERAL": "1",  # leave out the services that schedule and clean up
        "PREFECT__SERVER_FINAL": "1",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    options = ["--host", LOOPBACK, "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    with server_log(root) as log:
        process = start_child([*command, *options], root, variables, log)
    try:
        yield Api(address, lambda: await_health(address, process), temporary=True)
    finally:
        stop_process(process)


def stop_process(process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    """Terminate a child process, and kill it if it has not ended after `seconds`."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
    if process.poll() is None:
        process.kill()
    process.wait()


@contextmanager
def server_log(root: Path, name: str = "server.log") -> Iterator[int]:
    """Open a file in the server's folder for appending.

    Only the owner may read the folder, because the server's database in it holds Prefect's Secret blocks.
    """
    path = root / HOME / name
    with explained_storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def start_child(
    command: list[str], root: Path, variables: Mapping[str, str], output: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, out of reach of Ctrl-C; it ends when this process ends."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(PARENT_DEATH), str(os.getpid()), *command],
        cwd=root,
        env={**environment(), **variables},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def find_running_server(root: Path) -> str | None:
    """Return the URL of the API that `make serve` runs for this folder, or None if it does not answer."""
    try:
        address = str(json.loads((root / NOTE).read_text(encoding="utf-8"))["api"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return address if is_healthy(address, 5.0) else None  # a dead server refuses at once, a busy one takes a while


def report_address(root: Path) -> str | None:
    """Return the URL of the report: from the running server, else from the folder; None if there is no report."""
    page = root / REPORT
    if not page.is_file():
        return None
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((root / NOTE).read_text(encoding="utf-8"))["report"])
    return page.resolve().as_uri()


def is_healthy(address: str, seconds: float = 1.0) -> bool:
    """Return whether a Prefect API answers at an address."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=seconds) as answer:  # noqa: S310 (our own address)
            return answer.status == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


def await_health(address: str, process: subprocess.Popen[bytes], seconds: float = START_SECONDS) -> None:
    """Wait until a server that this process started answers.

    Raises:
        GraphError: the server ended, or it does not answer within `seconds`.
    """
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        if is_healthy(address):
            return
        time.sleep(0.05)
    found = "no answer" if process.poll() is None else f"it ended with status {process.returncode}"
    raise GraphError(
        "Prefect's server did not start", where=address, found=found, fix="Read .reprise/prefect/server.log."
    )


def find_free_port() -> int:
    """Return a TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
