"""The report's address: two files, one secret path, and no other answer."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.flows.serving import server
from pipeline.flows.serving.own_pages import OwnNames
from pipeline.flows.serving.report_page import serve_report
from reprise.artifacts.layout import REPORT, REPORT_PROVENANCE

TOKEN = "t0ken"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A project folder and the port at which its report is served."""
    root = tmp_path_factory.mktemp("report")
    (root / REPORT).parent.mkdir(parents=True)
    (root / REPORT).write_text("<title>a report</title>")
    (root / REPORT_PROVENANCE).write_text("provenance = {}")
    (root / REPORT).with_name("notes.txt").write_text("not for the page")
    (root / "params.yaml").write_text("a: 1")
    with server.listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with serve_report(root, listener, OwnNames(), TOKEN) as path:
            assert path == f"/{TOKEN}/index.html"
            yield root, port


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Send one request; header names are given with underscores."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    result = answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    return result


def raw(port: int, request: bytes) -> bytes:
    """Send bytes, and return all bytes of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_the_page_and_its_script_are_served_with_strict_headers(page: tuple[Path, int]) -> None:
    status, content, headers = get(page[1], f"/{TOKEN}/index.html?x=1")
    assert (status, content) == (200, b"<title>a report</title>")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"  # the address is secret
    assert "python" not in headers["server"].lower()
    status, content, headers = get(page[1], f"/{TOKEN}/provenance.js")
    assert (status, content, headers["content-type"]) == (200, b"provenance = {}", "text/javascript; charset=utf-8")
    assert get(page[1], f"/{TOKEN}/index.html", "HEAD")[:2] == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/index.html",
        f"/{TOKEN}",
        f"/{TOKEN}/",
        "/token/index.html",
        f"/{TOKEN}/notes.txt",
        f"/{TOKEN}/../../params.yaml",
        f"/{TOKEN}/%2e%2e/%2e%2e/params.yaml",
        f"/{TOKEN}/index.html%00",
        f"/{TOKEN}/%00",
        "//[",
        f"http://127.0.0.1/{TOKEN}/index.html",
    ],
)
def test_nothing_else_is_served(page: tuple[Path, int], path: str) -> None:
    status, content, headers = get(page[1], path)
    assert (status, content) == (404, b"There is no such page.\n")
    assert "content-security-policy" in headers


def test_nul_and_other_bytes_stop_nothing(page: tuple[Path, int], capfd: pytest.CaptureFixture[str]) -> None:
    for path in (b"/\x00", f"/{TOKEN}/index.html".encode() + b"\x00", b"/\xff\xfe", b"/" + b"x" * 70000):
        answer = raw(page[1], b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert b" 404 " in answer or b" 414 " in answer
    assert b" 403 " in raw(page[1], b"GET / HTTP/1.1\r\nHost: 127.0.0.1\x00\r\nConnection: close\r\n\r\n")
    raw(page[1], b"\x00\x01\x02\r\n\r\n")
    assert get(page[1], f"/{TOKEN}/index.html")[0] == 200
    assert capfd.readouterr() == ("", "")  # no traceback, and no secret path


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "script"},
    ],
)
def test_foreign_pages_are_refused(page: tuple[Path, int], headers: dict[str, str]) -> None:
    status, content, answered = get(page[1], f"/{TOKEN}/index.html", **headers)
    assert status == 403
    assert b"report" not in content
    assert "access-control-allow-origin" not in answered


def test_no_other_method_and_no_pipe(page: tuple[Path, int]) -> None:
    assert get(page[1], f"/{TOKEN}/index.html", "POST")[0] == 501
    aside = (page[0] / REPORT).rename(page[0] / "aside.html")
    assert get(page[1], f"/{TOKEN}/index.html")[0] == 404
    os.mkfifo(page[0] / REPORT)
    assert get(page[1], f"/{TOKEN}/index.html")[0] == 404
    aside.replace(page[0] / REPORT)
    assert get(page[1], f"/{TOKEN}/index.html")[0] == 200
