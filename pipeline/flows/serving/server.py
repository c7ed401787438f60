"""Provide the Prefect API that a flow needs: a server that already runs, or a temporary one for a single run.

This module does not import Prefect: a temporary server takes four seconds to start, and Prefect is imported meanwhile.
All state is kept in .reprise/prefect, so runs that had a temporary server are shown by a later server as well.
PREFECT_API_URL and PREFECT_HOME take precedence when set. Every server that is started here asks for a random password
(`credentials.py`) and refuses requests of foreign web pages (`guarded_server.py`).
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.flows.api_client import check_access, why_unreachable
from pipeline.flows.serving.credentials import (
    CLIENT_VARIABLE,
    HOME,
    PASSWORD,
    SERVER_VARIABLE,
    make_password,
    make_private_folder,
    read_secret,
)
from pipeline.flows.serving.guarded_server import HOSTS_VARIABLE, ORIGINS_VARIABLE
from pipeline.flows.serving.own_pages import OwnNames
from pipeline.processes.commands import OWN_MODULE, PARENT_DEATH, environment
from pipeline.processes.redaction import make_redactor
from reprise.artifacts.layout import REPORT
from reprise.config.errors import GraphError, listed
from reprise.storage.atomic import explained_storage, write_json

NOTE = HOME / "server.json"  # the addresses of the server of `make serve`, and its process
LOOPBACK = "127.0.0.1"
_LOG_SECONDS = 2.0
_POLL_SECONDS = 0.3
INTERRUPTED_SECONDS = 0.5  # for a server to end after Ctrl-C
_last_lines: dict[str, deque[str]] = {}  # of each log, for the message of a server that ends
START_SECONDS = 180.0  # the first start creates the database
_LISTEN_FIXES = {
    errno.EADDRINUSE: "Stop what uses the port, or choose another one, such as PREFECT_SERVER_API_PORT=4300.",
    errno.EADDRNOTAVAIL: "Set PREFECT_SERVER_API_HOST to an address of this machine, or unset it.",
    errno.EACCES: "Choose a port from 1024: PREFECT_SERVER_API_PORT=4300.",
}


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
    """Give this process the address and the password of an API. Enter this before Prefect is imported.

    If no server runs, a temporary one starts in the background: import Prefect, then call `wait()`.

    Raises:
        GraphError: PREFECT_API_URL names a server that does not answer, or that refuses the password.
    """
    os.environ.update(prefect_settings(root))
    with with_variables(client_variables(root)):
        address = os.environ.get("PREFECT_API_URL")
        if address:
            check_access(address)
            yield Api(address, lambda: None)
            return
        with temporary_server(root) as (started, password), with_variables(api_variables(started.address, password)):
            yield started


def client_variables(root: Path) -> dict[str, str]:
    """Return the environment variables that lead clients to the server that is in use; none if there is no server.

    The server is the one that PREFECT_API_URL names, else the one that `make serve` runs for this folder. Its password
    is known if it is the one of this folder, and nobody else gets this password.
    """
    address = os.environ.get("PREFECT_API_URL")
    running = find_running_server(root)
    if running is None or (address and address.rstrip("/") != running):
        return {}
    if _read_note(root).get("password") == SERVER_VARIABLE:  # chosen by the user, who gives it to clients as well
        return api_variables(running, os.environ.get(CLIENT_VARIABLE) or os.environ.get(SERVER_VARIABLE))
    with suppress(FileNotFoundError):
        return api_variables(running, read_secret(root / PASSWORD))
    return api_variables(running, None)  # the server has just ended


def api_variables(address: str, password: str | None) -> dict[str, str]:
    """Return the environment variables with which Prefect's clients reach a server of this machine.

    No proxy may stand between them: it would get the password.
    """
    host = address.split("://", 1)[1].rsplit(":", 1)[0].strip("[]")
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    direct = known if host in known.split(",") else ",".join(filter(None, [known, host]))
    variables = {"PREFECT_API_URL": address, "NO_PROXY": direct, "no_proxy": direct}
    return {**variables, CLIENT_VARIABLE: password} if password else variables


@contextmanager
def with_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process inside the `with` block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def temporary_server(root: Path) -> Iterator[tuple[Api, str]]:
    """Run a server without a user interface inside the `with` block; it also ends when this process does.

    Yields:
        The API and its password.
    """
    password = make_password()
    variables = {
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT__SERVER_EPHEMERAL": "1",  # leave out the services that schedule and clean up
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
    }
    with listening(LOOPBACK, 0) as listener:
        address = f"http://{LOOPBACK}:{listener.getsockname()[1]}/api"
        process = start_server(root, listener, password, OwnNames(), variables, level="error")
    try:
        yield Api(address, lambda: await_health(address, process), temporary=True), password
    except KeyboardInterrupt:  # the person does not want to wait for the server's own leave-taking
        stop_process(process, INTERRUPTED_SECONDS)
        raise
    finally:
        stop_process(process)


def start_server(
    root: Path,
    listener: socket.socket,
    password: str,
    names: OwnNames,
    variables: Mapping[str, str],
    *,
    level: str = "warning",
) -> subprocess.Popen[bytes]:
    """Start Prefect's server behind its guard.

    Args:
        root: the project folder.
        listener: a listening socket, which the server takes over.
        password: what clients must send, in the form name:password.
        names: what the server is called.
        variables: further settings of Prefect.
        level: level of the log.
    """
    host, port = listener.getsockname()[:2]
    all_variables = {
        **prefect_settings(root),
        SERVER_VARIABLE: password,
        HOSTS_VARIABLE: ",".join(sorted(names.hosts)),
        ORIGINS_VARIABLE: ",".join(sorted(names.origins)),
        # Pages of Prefect's user interface have the server's own origin, so no other origin needs to be named.
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": ",".join(sorted(names.origins)) or url(host, port),
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT__SERVER_FINAL": "1",
        **variables,
    }
    command = [*OWN_MODULE, "pipeline.flows.serving.guarded_server", str(listener.fileno()), level]
    with server_log(root) as log:
        return start_child(command, root, all_variables, log, keep=(listener.fileno(),))


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
    """Yield a descriptor whose lines are added to a file in the server's folder, without the secrets in them.

    Only the owner may read the folder, because the server's database in it holds Prefect's Secret blocks. The lines
    pass through a thread of this process until every process that holds the descriptor has ended.
    """
    path = root / HOME / name
    with explained_storage(path):
        make_private_folder(path.parent)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    reader, writer = os.pipe()
    last = _last_lines[name] = deque(maxlen=8)
    copier = threading.Thread(
        target=_copy_hidden, args=(reader, log, make_redactor(root), last), name=name, daemon=True
    )
    copier.start()
    atexit.register(copier.join, _LOG_SECONDS)  # the last lines say why a server ended
    try:
        yield writer
    finally:
        os.close(writer)


def _copy_hidden(reader: int, log: int, hide: Callable[[str], str], last: deque[str]) -> None:
    with open(reader, "rb") as lines, open(log, "ab", buffering=0) as file:
        for line in lines:
            hidden = hide(line.decode("utf-8", "replace"))
            last.append(hidden.rstrip())
            with suppress(OSError):  # a full disk must not stop the server, which would wait for a reader
                file.write(hidden.encode())


def start_child(
    command: list[str],
    root: Path,
    variables: Mapping[str, str],
    output: int | None = None,
    keep: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, out of reach of Ctrl-C; it ends when this process ends.

    Args:
        command: the program and its arguments.
        root: the folder to run in.
        variables: environment variables, besides those of this process.
        output: descriptor that the process writes to; by default, the output of this process.
        keep: further descriptors that the process takes over.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(PARENT_DEATH), str(os.getpid()), *command],
        cwd=root,
        env={**environment(), **variables},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        pass_fds=keep,
    )


def write_note(root: Path, address: str, report: str, *, chosen_password: bool) -> None:
    """Write down where the server of this process is found."""
    started = psutil.Process().create_time()
    source = SERVER_VARIABLE if chosen_password else PASSWORD.name
    note = {"api": address, "report": report, "process": os.getpid(), "started": started, "password": source}
    write_json(root / NOTE, note)


def find_running_server(root: Path) -> str | None:
    """Return the URL of the API that `make serve` runs for this folder, or None if it does not answer."""
    address = _read_note(root).get("api")
    if not isinstance(address, str):
        return None
    with with_variables(api_variables(address, None)):  # no proxy
        return address if why_unreachable(address) is None else None


def report_address(root: Path) -> str | None:
    """Return the URL of the report: from the running server, else from the folder; None if there is no report."""
    page = root / REPORT
    if not page.is_file():
        return None
    address = _read_note(root).get("report")
    return address if isinstance(address, str) else page.resolve().as_uri()


def _read_note(root: Path) -> Mapping[str, object]:
    """Return the note of the server that runs for this folder; it is empty if none runs.

    A note whose process has ended is not believed: another user's program may listen on that port by now.
    """
    try:
        note = json.loads((root / NOTE).read_text(encoding="utf-8"))
        process = psutil.Process(int(note["process"]))
        return note if process.create_time() == note["started"] else {}
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return {}


def await_health(
    address: str,
    process: subprocess.Popen[bytes],
    seconds: float = START_SECONDS,
    stop: threading.Event | None = None,
) -> None:
    """Wait until a server that this process started answers, or `stop` is set.

    Raises:
        GraphError: the server ended, or it does not answer within `seconds`.
    """
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        if (stop is not None and stop.is_set()) or why_unreachable(address, 1.0) is None:
            return
        time.sleep(0.05)
    status = process.poll()
    time.sleep(0 if status is None else _POLL_SECONDS)  # for its last lines
    ended = "no answer" if status is None else f"it ended with status {status}"
    raise GraphError(
        "Prefect's server did not start",
        where=address,
        found=listed([ended, *(f"| {line}" for line in _last_lines.get("server.log", ()) if line)]),
        fix="Mend what Prefect's text names; .reprise/prefect/server.log holds the rest of it.",
    )


def url(host: str, port: int) -> str:
    """Return the start of a URL; an IPv6 address stands in brackets there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens, and close this process's hold on it at the end of the `with` block.

    A socket that listens keeps its port: no program of another user can take it before the server answers there.

    Args:
        host: name or address of this machine.
        port: 0 takes a free port.

    Raises:
        GraphError: the name cannot be resolved, the address is none of this machine, or the port is taken.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise GraphError(
            "the name of the host on which Prefect's server is to listen cannot be resolved",
            where="PREFECT_SERVER_API_HOST",
            found=f"{host}: {error}",
            fix=f"Name an address of this machine, or unset the variable: the server then listens on {LOOPBACK}.",
        ) from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
            listener.listen(2048)
        except OSError as error:
            raise GraphError(
                "Prefect's server cannot listen on its port",
                where=f"{host}:{port}",
                found=error.strerror or error,
                fix=_LISTEN_FIXES.get(error.errno or 0, _LISTEN_FIXES[errno.EADDRINUSE]),
            ) from error
        yield listener
