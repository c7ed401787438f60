"""Start Prefect's server behind a guard: `python -m pipeline.flows.serving.guarded_server DESCRIPTOR LEVEL`.

The server asks for a password by Prefect's own means. The guard refuses requests that come from foreign web pages or
name a foreign host, those for websockets included, before Prefect sees them.

DESCRIPTOR is the number of a listening socket that the parent process has opened: no other program can take the port
between the parent's check and the server's start. LEVEL is the level of the log.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pipeline.flows.serving.credentials import SERVER_VARIABLE
from pipeline.flows.serving.own_pages import HEADERS, OwnNames

HOSTS_VARIABLE, ORIGINS_VARIABLE = "REPRISE_SERVER_HOSTS", "REPRISE_SERVER_ORIGINS"  # comma-separated
PAGES_API_VARIABLE = "PREFECT_SERVER_UI_API_URL"
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
# Prefect's pages record what happens on them for a service of another company, DO_NOT_TRACK or not: they may connect to
# this server only. The last word of the first line is the API that the user has named for them, if it is another one.
_POLICY = "connect-src 'self' {api}; frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'"
_POLICY_VIOLATION = 1008  # close code of a websocket: RFC 6455, section 7.4.1


class Guard:
    """An ASGI application that answers a server's own pages only.

    Args:
        application: the application that gets the requests which are not refused.
        names: what the server is called.
        api: URL of the API that the pages use, if it is not below the pages themselves.
    """

    def __init__(self, application: Application, names: OwnNames, api: str = "") -> None:
        self._application, self._names = application, names
        policy = _POLICY.format(api=api if "://" in api else "")
        headers = {**HEADERS, "Content-Security-Policy": policy}
        self._headers = {name.lower().encode(): value.encode() for name, value in headers.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        refusal = self._names.refusal(headers)
        if refusal is not None and scope["type"] == "websocket":
            await receive()  # the request to connect
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        elif refusal is not None:
            text = f"{refusal} PREFECT_SERVER_CORS_ALLOWED_ORIGINS names further addresses when it starts.\n".encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": [*headers, *self._headers.items()]})
            await send({"type": "http.response.body", "body": text})
        else:
            await self._application(scope, receive, self._with_headers(send))

    def _with_headers(self, send: Send) -> Send:
        """Return a function that sends messages on, with the guard's headers in place of the application's."""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name, value) for name, value in message.get("headers", []) if name.lower() not in self._headers]
                message["headers"] = [*own, *self._headers.items()]
            await send(message)

        return add


def create_app() -> Guard:
    """Return Prefect's application behind the guard, from the environment.

    Raises:
        SystemExit: Prefect has no password, and would answer everybody.
    """
    from prefect.server.api.server import create_app as create_prefect_app
    from prefect.settings import get_current_settings

    password = get_current_settings().server.api.auth_string
    if password is None or os.environ.get(SERVER_VARIABLE) != password.get_secret_value():
        sys.exit(f"Prefect does not take its password from {SERVER_VARIABLE}: the server is not started without one")
    names = OwnNames(_from_environment(HOSTS_VARIABLE), _from_environment(ORIGINS_VARIABLE))
    return Guard(create_prefect_app(), names, os.environ.get(PAGES_API_VARIABLE, ""))


def _from_environment(variable: str) -> frozenset[str]:
    return frozenset(word for word in os.environ.get(variable, "").split(",") if word)


def _run(descriptor: int, level: str) -> None:
    import uvicorn

    configuration = uvicorn.Config(
        create_app, factory=True, log_level=level, lifespan="on", proxy_headers=False, server_header=False
    )
    uvicorn.Server(configuration).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    _run(int(sys.argv[1]), sys.argv[2])
