"""The Prefect API that a flow needs: one that runs already, or a temporary one for a single run.

No import of Prefect here: a temporary server takes four seconds to start, and Prefect is imported meanwhile.
Everything lies in .reprise/prefect, so that runs without a server show up once there is one. PREFECT_API_URL and
PREFECT_HOME, where given, have the say.
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
from pipeline.processes.processes import PARENT_DEATH, environment
from reprise.config.errors import GraphError
from reprise.storage.atomic import explained_storage

HOME = STATE / "prefect"
NOTE = HOME / "server.json"  # where the server of `make serve` answers
LOOPBACK = "127.0.0.1"
START_SECONDS = 180.0  # the first start makes the database
REPORT = Path("data/report/index.html")


def settings(root: Path) -> dict[str, str]:
    """Environment variables for everything of Prefect that runs for this folder."""
    home = os.environ.get("PREFECT_HOME") or str((root / HOME).resolve())
    return {
        "PREFECT_HOME": home,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    }


@dataclass(frozen=True)
class Api:
    """A Prefect API; `wait()` returns when it answers. A passing one has no pages to look at."""

    address: str
    wait: Callable[[], None]
    passing: bool = False


@contextmanager
def api(root: Path) -> Iterator[Api]:
    """The API for this process, which PREFECT_API_URL then names: enter this before Prefect is imported.

    A server that must be started first starts meanwhile: import, then `wait()`.

    Raises:
        GraphError: PREFECT_API_URL names a server that does not answer.
    """
    os.environ.update(settings(root))
    given = os.environ.get("PREFECT_API_URL")
    if given and not healthy(given, 5.0):
        raise GraphError(
            "Prefect's server does not answer", where="PREFECT_API_URL", found=given, fix="Start it, or unset it."
        )
    running = given or known(root)
    if running:
        os.environ["PREFECT_API_URL"] = running
        yield Api(running, lambda: None)
        return
    with temporary(root) as started:
        os.environ["PREFECT_API_URL"] = started.address
        try:
            yield started
        finally:
            del os.environ["PREFECT_API_URL"]


@contextmanager
def temporary(root: Path) -> Iterator[Api]:
    """A server without user interface for the time of one run; it also ends with this process."""
    port = free_port()
    address = f"http://{LOOPBACK}:{port}/api"
    variables = {
        **settings(root),
        "PREFECT_UI_ENABLED": "false",
        "PREFECT__SERVER_EPHEMERAL": "1",  # without the services that schedule and clean up
        "PREFECT__SERVER_FINAL": "1",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    options = ["--host", LOOPBACK, "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    with server_log(root) as log:
        process = ending_with_this([*command, *options], root, variables, log)
    try:
        yield Api(address, lambda: await_health(address, process), passing=True)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    """Ask a process that was started here to end, and end it if it does not."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
    if process.poll() is None:
        process.kill()
    process.wait()


@contextmanager
def server_log(root: Path, name: str = "server.log") -> Iterator[int]:
    """A descriptor that appends to a file in the server's folder, which only its owner may read: it holds blocks."""
    path = root / HOME / name
    with explained_storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def ending_with_this(
    command: list[str], root: Path, variables: Mapping[str, str], output: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, where Ctrl-C does not reach it; it ends with this one."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(PARENT_DEATH), str(os.getpid()), *command],
        cwd=root,
        env={**environment(), **variables},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def known(root: Path) -> str | None:
    """Address of the server that `make serve` runs for this folder, if it answers."""
    try:
        address = str(json.loads((root / NOTE).read_text(encoding="utf-8"))["api"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return address if healthy(address, 5.0) else None  # a dead one refuses at once, a busy one takes a while


def report_address(root: Path) -> str | None:
    """Where a browser finds the report: at the running server's side, or in the folder; None where there is none."""
    page = root / REPORT
    if not page.is_file():
        return None
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((root / NOTE).read_text(encoding="utf-8"))["report"])
    return page.resolve().as_uri()


def healthy(address: str, seconds: float = 1.0) -> bool:
    """Whether a Prefect API answers there."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=seconds) as answer:  # noqa: S310 (our own address)
            return answer.status == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


def await_health(address: str, process: subprocess.Popen[bytes], seconds: float = START_SECONDS) -> None:
    """Wait until a server that was started answers.

    Raises:
        GraphError: it ended, or it does not answer in time.
    """
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        if healthy(address):
            return
        time.sleep(0.05)
    found = "no answer" if process.poll() is None else f"it ended with status {process.returncode}"
    raise GraphError(
        "Prefect's server did not start", where=address, found=found, fix="Look at .reprise/prefect/server.log."
    )


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
