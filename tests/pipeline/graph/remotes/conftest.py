"""Processes in a toy project find its own rooms first; a server that speaks S3, and one that fails on request."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.dvc_project import Project, new_project

KEY, SECRET = "AKIACANARYCANARY01", "canary/secret+key/canary"
_GRAPH = """
stages:
  first:
    cmd: python work.py first 1
    deps: [work.py]
    params: [first]
    outs: [data/first]
  second:
    cmd: python work.py second 2
    deps: [work.py, data/first]
    params: [second]
    outs: [data/second]
"""
_REMOTE = """['remote "store"']
    url = ../../store
"""
_WORK = """
import os, pathlib, sys
with open(os.environ["TOY_LOG"], "a") as file:
    file.write(sys.argv[1] + "\\n")
out = pathlib.Path("data", sys.argv[1])
out.mkdir(parents=True)
own = [line for line in pathlib.Path("params.yaml").read_text().splitlines() if line.startswith(sys.argv[1])]
(out / "x").write_text(own[0])
(out / "y").write_text("y")
"""


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of two stages that ran, committed; never written."""
    project = new_project(tmp_path_factory.mktemp("remotes") / "origin")
    project.write("dvc.yaml", _GRAPH)
    project.write("params.yaml", "first: 1\nsecond: 1\n")
    project.write("work.py", _WORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_LOG", os.devnull)
        project.dvc("repro")
    text = (project.root / ".dvc/config").read_text()
    project.write(".dvc/config", text.replace("[core]\n", "[core]\n    remote = store\n") + _REMOTE)
    project.commit("the first run")
    return project


@pytest.fixture
def origin(_template: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of it for one test; its remote is the folder `store` beside it."""
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    shutil.copytree(_template.root, tmp_path / "origin", symlinks=True)
    return Project(tmp_path / "origin")


def clone(project: Project, root: Path) -> Project:
    """The project elsewhere, as git holds it: no cache."""
    project.call("git", "clone", "--quiet", str(project.root), str(root))
    return Project(root)


def ran(project: Project) -> list[str]:
    """Stages whose command ran since the last call, here or in a clone beside."""
    path = project.root.parent / "log"
    lines = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of moto's server with a bucket `reprise`."""
    port = _free_port()
    log = (tmp_path_factory.mktemp("moto") / "log").open("w")
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while not _listens(port):
            assert process.poll() is None, "moto's server ended"
            assert time.monotonic() < end, "moto's server does not answer"
            time.sleep(0.1)
        _request(address, "PUT", "/reprise")
        yield address
    finally:
        process.kill()
        process.wait()
        log.close()


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Canaries: neither may be seen anywhere. One attempt a request, and nobody's own settings."""
    nothing = tmp_path / "aws-settings"
    nothing.touch()
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": str(nothing),
        "AWS_SHARED_CREDENTIALS_FILE": str(nothing),
    }.items():
        monkeypatch.setenv(name, value)


class _Refusing(http.server.BaseHTTPRequestHandler):
    """Answers every request with the error named first in its path: /<bucket> is `<status>-<code>`."""

    def _answer(self) -> None:
        status, code = self.path.split("/")[1].split("?")[0].split("-", 1)
        code = {c.lower(): c for c in CODES}[code]
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
        self.send_response(int(status))
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Nothing."""


CODES = ("AccessDenied", "SignatureDoesNotMatch", "ExpiredToken", "SlowDown", "InternalError")


@pytest.fixture(scope="session")
def refusing() -> Iterator[str]:
    """The address of a server that refuses or fails: bucket `503-slowdown` is an answer 503 SlowDown."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _request(address: str, method: str, path: str) -> None:
    import urllib.request

    headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"}
    urllib.request.urlopen(urllib.request.Request(address + path, method=method, headers=headers), timeout=30).close()
