"""One server with its worker for the session (`reprise flows serve` in a toy of its own), and toys to run on it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.flows.serving import server
from pipeline.processes.commands import environment
from tests.faults.killing import family
from tests.pipeline.dvc_project import REPRISE, Project, wait_for
from tests.pipeline.flows.toy import Prefect, toy_project

QUICK = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": "PT60S",  # not a whole hour of runs in advance
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
}


@pytest.fixture(scope="session", autouse=True)
def _no_prefect_settings() -> Iterator[None]:
    """Ignore the Prefect settings of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        yield


@pytest.fixture
def toy(tmp_path: Path, repository: Path) -> Iterator[Project]:
    """A toy project before its first run; what a failed test leaves running ends with it."""
    project = toy_project(tmp_path / f"toy-{tmp_path.name.replace('_', '-')}", repository)
    yield project
    for process in family(project.root):
        process.kill()


@pytest.fixture
def unused_port() -> int:
    """A port that nothing listens on."""
    return find_free_port()


def find_free_port() -> int:
    """Return a port that nothing listens on."""
    with server.listening(server.LOOPBACK, 0) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def serving(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, _import_path: None, _no_prefect_settings: None
) -> Iterator[tuple[Project, subprocess.Popen[bytes]]]:
    """`reprise flows serve` in a toy of its own."""
    project = toy_project(tmp_path_factory.mktemp("serving") / "served", repository)
    variables = {**environment(), **QUICK, "PREFECT_SERVER_API_PORT": str(find_free_port())}
    log = (project.root / "serve.log").open("wb")
    process = subprocess.Popen(
        [*REPRISE, "flows", "serve"], cwd=project.root, env=variables, stdout=log, stderr=log, start_new_session=True
    )
    try:
        wait_for(lambda: process.poll() is not None or server.find_running_server(project.root), 120)
        assert process.poll() is None, (project.root / "serve.log").read_text()
        yield project, process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            psutil.Process(process.pid).kill()
        log.close()


@pytest.fixture
def prefect(serving: tuple[Project, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch) -> Prefect:
    """The session's server, whose address and password are in the environment of everything that a test starts."""
    project, process = serving
    assert process.poll() is None, (project.root / "serve.log").read_text()
    address = server.find_running_server(project.root)
    assert address
    for name, value in server.client_variables(project.root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PREFECT_HOME", str(project.root / server.HOME))
    return Prefect(address)
