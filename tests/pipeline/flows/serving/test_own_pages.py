"""Which requests come from a server's own pages: the headers of browsers, tunnels, programs and attackers."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.flows.serving.guarded_server import Guard
from pipeline.flows.serving.own_pages import OwnNames, host_name

NAMES = OwnNames(
    frozenset({"127.0.0.1", "::1", "localhost", "prefect.example.org"}), frozenset({"https://prefect.example.org"})
)
HOST = ("Host", "127.0.0.1:4200")
NAVIGATION = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],  # curl, Prefect's clients
        [("host", " LOCALHOST:4200\t")],
        [("Host", "localhost.:4200")],
        [("Host", "[::1]:4200")],
        [("Host", "[0:0:0:0:0:0:0:1]:4200")],
        [HOST, ("Origin", "http://127.0.0.1:4200"), ("Sec-Fetch-Site", "same-origin")],
        [("Host", "localhost:8080"), ("Origin", "http://localhost:8080")],  # the far end of `ssh -L 8080:...`
        [("Host", "prefect.example.org"), ("Origin", "https://prefect.example.org")],  # behind a proxy
        [HOST, ("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")],  # typed into the browser
        [HOST, *NAVIGATION],  # a link
    ],
)
def test_own_pages_and_programs_are_answered(headers: list[tuple[str, str]]) -> None:
    assert NAMES.refusal(headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Host", "")],
        [("Host", "evil.example:4200")],  # DNS rebinding
        [("Host", "evil.example:4200"), ("Origin", "http://evil.example:4200"), ("Sec-Fetch-Site", "same-origin")],
        [("Host", "0.0.0.0:4200")],
        [("Host", "127.0.0.1.evil.example:4200")],
        [("Host", "127.0.0.1:4200@evil.example")],
        [("Host", "127.0.0.1:4200/evil.example")],
        [("Host", "127.0.0.1:port")],
        [("Host", "127.0.0.1:4200, evil.example")],
        [("Host", "[::1")],
        [HOST, HOST],
        [HOST, ("host", "evil.example")],
    ],
)
def test_foreign_and_malformed_hosts_are_refused(headers: list[tuple[str, str]]) -> None:
    assert OwnNames().refusal(headers) == "This server does not go by the name in the Host header of the request."


@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "http://evil.example")],
        [("Origin", "null")],  # a sandboxed frame, a file
        [("Origin", "http://127.0.0.1:4201")],  # another program of this machine
        [("Origin", "http://localhost:4200")],  # another name than the page's own
        [("Origin", "https://127.0.0.1:4200")],
        [("Origin", "http://127.0.0.1:4200.evil.example")],
        [("Origin", "http://127.0.0.1:4200"), ("Origin", "http://evil.example")],
        [("Origin", "")],
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "script")],
        [("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")],
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")],
        [("Sec-Fetch-Site", "cross-site")],
        [*NAVIGATION, ("Origin", "http://evil.example")],  # a form that a foreign page sends
    ],
)
def test_foreign_pages_are_refused(headers: list[tuple[str, str]]) -> None:
    assert NAMES.refusal([HOST, *headers]) == "This server does not answer pages of another origin."


def test_the_name_in_a_host_header() -> None:
    assert host_name("Example.org:80") == "example.org"
    assert host_name("[::1]") == "::1"
    assert host_name("exa mple?.org") is None
    assert host_name("ＥＸ℀mple.org") is None  # a character that turns into a slash


def ask(scope: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """What the guard sends, and the kinds of requests that reached the application behind it."""
    reached, sent = [], []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["type"])
        if scope["type"] == "http":
            headers = [(b"content-type", b"text/html"), (b"X-Frame-Options", b"ALLOWALL")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"a secret"})

    async def receive() -> Any:
        return {"type": f"{scope['type']}.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    def run() -> None:
        asyncio.run(Guard(application, OwnNames())(scope, receive, send))

    with ThreadPoolExecutor(1) as alone:  # a browser of other tests keeps a loop running in the thread of the tests
        alone.submit(run).result()
    return sent, reached


def scope(kind: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": kind, "method": "GET", "path": "/", "headers": [(b"host", b"127.0.0.1:4200"), *headers]}


def test_the_guard_passes_on_what_is_its_own_and_adds_its_headers() -> None:
    assert ask({"type": "lifespan"}) == ([], ["lifespan"])
    assert ask(scope("websocket")) == ([], ["websocket"])
    (start, body), reached = ask(scope("http", (b"origin", b"http://127.0.0.1:4200")))
    assert reached == ["http"]
    assert body["body"] == b"a secret"
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"text/html"
    assert headers[b"x-frame-options"] == b"SAMEORIGIN"  # once, and not the application's
    assert b"X-Frame-Options" not in headers
    assert headers[b"content-security-policy"].startswith(b"connect-src 'self' ;")
    assert b"access-control-allow-origin" not in headers


def test_the_guard_refuses_requests_and_websockets_before_the_application_sees_them() -> None:
    (start, body), reached = ask(scope("http", (b"origin", b"http://evil.example")))
    assert (start["status"], reached) == (403, [])
    assert body["body"].startswith(b"This server does not answer pages of another origin.")
    assert b"access-control-allow-origin" not in dict(start["headers"])
    sent, reached = ask(scope("websocket", (b"origin", b"http://evil.example")))
    assert ([message["type"] for message in sent], reached) == (["websocket.close"], [])
    (start, _), reached = ask({"type": "http", "headers": [(b"host", b"evil.example")]})
    assert (start["status"], reached) == (403, [])
