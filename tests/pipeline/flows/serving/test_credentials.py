"""Passwords in files: who can read them, who gets them, and what a user may choose instead."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from pipeline.flows.api_client import call, check_access, why_unreachable
from pipeline.flows.serving import credentials, server, service
from reprise.config.errors import GraphError, ParameterError


def test_a_secret_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / ".reprise/prefect/password"
    previous = os.umask(0)
    try:
        credentials.write_secret(path, "one:two")
        credentials.write_secret(path, "three:four")
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert credentials.read_secret(path) == "three:four"
    assert [each.name for each in path.parent.iterdir()] == ["password"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_secret_that_others_may_read_or_write_is_not_used(tmp_path: Path, mode: int) -> None:
    credentials.write_secret(tmp_path / "secret", "one:two")
    (tmp_path / "secret").chmod(mode)
    with pytest.raises(GraphError, match="must be readable by its owner only"):
        credentials.read_secret(tmp_path / "secret")


@pytest.mark.parametrize("content", [b"", b"\n", b"caf\xc3\xa9", b"a\x00b"])
def test_a_damaged_secret_is_reported_without_its_text(tmp_path: Path, content: bytes) -> None:
    credentials.write_secret(tmp_path / "secret", "one:two")
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(GraphError, match=f"Found: {len(content)} bytes that are no line of text"):
        credentials.read_secret(tmp_path / "secret")


def test_every_password_is_new_and_the_token_of_the_report_stays(tmp_path: Path) -> None:
    assert credentials.make_password() != credentials.make_password()
    assert len(credentials.make_password()) > 40
    token = credentials.report_token(tmp_path)
    assert len(token) > 40
    assert credentials.report_token(tmp_path) == token
    assert (tmp_path / credentials.REPORT_TOKEN).stat().st_mode & 0o777 == 0o600


def test_a_user_may_choose_the_password_if_prefect_can_compare_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert credentials.configured_password() is None
    monkeypatch.setenv(credentials.SERVER_VARIABLE, "")
    assert credentials.configured_password() is None
    monkeypatch.setenv(credentials.SERVER_VARIABLE, "me:secret")
    assert credentials.configured_password() == "me:secret"
    for text in ("café:secret", "no-colon", "me:two words"):
        monkeypatch.setenv(credentials.SERVER_VARIABLE, text)
        with pytest.raises(ParameterError) as raised:
            credentials.configured_password()
        assert text not in str(raised.value)


def test_the_names_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert service.own_names("127.0.0.1").hosts == {"127.0.0.1", "::1", "localhost"}
    assert "node7" in service.own_names("Node7").hosts
    assert service.own_names("0:0:0::1").hosts == {"127.0.0.1", "::1", "localhost"}
    everywhere = service.own_names("0.0.0.0").hosts
    assert {"127.0.0.1", "localhost"} < everywhere
    assert "0.0.0.0" not in everywhere
    monkeypatch.setenv("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "https://Prefect.example.org/, http://lab:8080")
    names = service.own_names("127.0.0.1")
    assert names.origins == {"https://prefect.example.org", "http://lab:8080"}
    assert {"prefect.example.org", "lab"} < names.hosts
    for wrong in ("*", "prefect.example.org", "file://", "https://a,*"):
        monkeypatch.setenv("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", wrong)
        with pytest.raises(ParameterError, match="origins that are named one by one"):
            service.own_names("127.0.0.1")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".example", "two..dots"])
def test_a_host_that_cannot_be_resolved_is_a_sentence(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GraphError, match="cannot be resolved"), server.listening(host, 0):
        pass
    address = f"http://{host}:4200/api"
    assert "the host name cannot be resolved" in str(why_unreachable(address))
    with pytest.raises(GraphError, match=r"does not answer \(PREFECT_API_URL\).*cannot be resolved"):
        check_access(address)
    with pytest.raises(GraphError, match="cannot be resolved"):
        call(address, "GET", "/version")


@pytest.mark.parametrize(
    "address",
    ["nonsense", "file:///etc/hostname", "http://two words/api", "http://[::1/api", "http://127.0.0.1:x/api", ""],
)
def test_an_address_that_is_none_is_a_sentence(address: str) -> None:
    with pytest.raises(GraphError, match="Prefect's server does not answer"):
        check_access(address)


def test_a_port_that_is_taken_and_an_address_of_another_machine_are_sentences() -> None:
    with server.listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(GraphError, match="already in use"), server.listening("127.0.0.1", port):
            pass
    with pytest.raises(GraphError, match="Cannot assign.*an address of this machine"), server.listening("192.0.2.1", 0):
        pass


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(GraphError, match="PREFECT_API_AUTH_STRING") as raised:
        check_access("http://me:canary@127.0.0.1:1/api")
    assert "canary" not in str(raised.value)


class _Api(BaseHTTPRequestHandler):
    """A server that is healthy, takes one password, and writes down what it was sent."""

    sent: list[str | None]

    def do_GET(self) -> None:
        if self.path.endswith("/health"):
            status = 200
        else:
            self.sent.append(self.headers["Authorization"])
            status = 200 if self.headers["Authorization"] == "Basic b25lOnR3bw==" else 401
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (named by the base class)
        pass


@pytest.fixture
def api() -> Iterator[str]:
    """The URL of such a server."""
    _Api.sent = []
    http = HTTPServer(("127.0.0.1", 0), _Api)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/api"
    http.shutdown()
    http.server_close()


def test_a_server_that_refuses_the_password_is_a_sentence(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GraphError, match="does not take the password of this process"):
        check_access(api)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "three:four")
    with pytest.raises(GraphError, match="does not take the password") as raised:
        call(api, "GET", "/flows")
    assert "three:four" not in str(raised.value)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "one:two")
    monkeypatch.setenv("PREFECT_API_KEY", "a-key")  # Prefect's own client prefers the password as well
    check_access(api)
    assert call(api, "GET", "/flows") is None


def served(root: Path, address: str, *, chosen: bool = False) -> None:
    """Leave what `make serve` leaves while it runs, with this process as the server."""
    credentials.write_secret(root / credentials.PASSWORD, "one:two")
    server.write_note(root, address, "http://127.0.0.1/report", chosen_password=chosen)


def test_clients_of_this_folder_get_the_address_and_the_password(
    tmp_path: Path, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.client_variables(tmp_path) == {}
    served(tmp_path, api)
    monkeypatch.setenv("no_proxy", "example.org")
    variables = server.client_variables(tmp_path)
    assert variables["PREFECT_API_URL"] == api
    assert variables["PREFECT_API_AUTH_STRING"] == "one:two"
    assert variables["no_proxy"] == variables["NO_PROXY"] == "example.org,127.0.0.1"
    monkeypatch.setenv("PREFECT_API_URL", f"{api}/")  # the docs tell to export it for Prefect's own commands
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "of:yesterday")
    with server.connect(tmp_path) as connected:
        assert (connected.address, connected.temporary) == (api, False)
        assert os.environ["PREFECT_API_AUTH_STRING"] == "one:two"
    assert os.environ["PREFECT_API_AUTH_STRING"] == "of:yesterday"


def test_a_server_of_the_users_own_gets_the_users_password_and_never_ours(
    tmp_path: Path, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(tmp_path, "http://127.0.0.1:1/api")
    monkeypatch.setenv("PREFECT_API_URL", api)
    assert server.client_variables(tmp_path) == {}
    with pytest.raises(GraphError, match="does not take the password"), server.connect(tmp_path):
        pass
    assert _Api.sent == [None]
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "one:two")
    with server.connect(tmp_path) as connected:
        assert connected.address == api


def test_a_password_that_the_user_chose_is_taken_from_the_environment(
    tmp_path: Path, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(tmp_path, api, chosen=True)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "my:own")
    assert server.client_variables(tmp_path)["PREFECT_API_AUTH_STRING"] == "my:own"


def test_a_note_whose_server_has_ended_sends_the_password_to_nobody(tmp_path: Path, api: str) -> None:
    """Another user's program may listen on the port of a server that was killed."""
    served(tmp_path, api)
    note = json.loads((tmp_path / server.NOTE).read_text())
    for change in ({"process": 2**30}, {"started": psutil.Process().create_time() - 1}, {"started": None}):
        (tmp_path / server.NOTE).write_text(json.dumps({**note, **change}))
        assert server.find_running_server(tmp_path) is None
        assert server.client_variables(tmp_path) == {}
    assert _Api.sent == []
