"""Serve the report's page, so that the page of a flow run can link to it: these files and nothing else.

The address holds a random part that other users of the machine do not know, and requests of foreign web pages are
refused. A request's path is only compared, never turned into a path of the disk.
"""

from __future__ import annotations

import hmac
import http.server
import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pipeline.flows.serving.own_pages import HEADERS, OwnNames
from reprise.artifacts.layout import REPORT, REPORT_PROVENANCE

FILES = {REPORT: "text/html; charset=utf-8", REPORT_PROVENANCE: "text/javascript; charset=utf-8"}
# The page's own policy, in its head, is stricter: it allows its scripts and styles by their hashes.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TIMEOUT_SECONDS = 30.0


@contextmanager
def serve_report(root: Path, listener: socket.socket, names: OwnNames, token: str) -> Iterator[str]:
    """Serve the report in a thread inside the `with` block.

    Args:
        root: the project folder.
        listener: a listening socket.
        names: what the server is called.
        token: the secret part of the address.

    Yields:
        The path of the page, with a leading slash.
    """
    files = {f"/{token}/{path.name}": (root / path, kind) for path, kind in FILES.items()}

    class Handler(_Handler):
        pages, own_names = files, names

    page = _Server(listener.getsockname(), Handler, bind_and_activate=False)
    page.socket.close()
    page.socket = listener
    threading.Thread(target=page.serve_forever, args=(0.1,), name="report", daemon=True).start()
    try:
        yield f"/{token}/{REPORT.name}"
    finally:
        page.shutdown()
        page.server_close()


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about a connection that broke off; the standard library would print a traceback."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    pages: Mapping[str, tuple[Path, str]]
    own_names: OwnNames
    timeout = _TIMEOUT_SECONDS
    server_version, sys_version = "Reprise", ""

    def do_GET(self) -> None:
        """Answer with a file, or refuse."""
        refusal = self.own_names.refusal(self.headers.items())
        if refusal is not None:
            self._answer(HTTPStatus.FORBIDDEN, f"{refusal}\n".encode())
            return
        path = self.path.partition("?")[0].encode("utf-8", "replace")
        for address, (file, kind) in self.pages.items():
            if hmac.compare_digest(path, address.encode()):
                content = _read(file)
                if content is not None:
                    self._answer(HTTPStatus.OK, content, kind)
                    return
        self._answer(HTTPStatus.NOT_FOUND, b"There is no such page.\n")

    do_HEAD = do_GET  # noqa: N815 (named by the base class)

    def _answer(self, status: HTTPStatus, content: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        headers = {**HEADERS, "Content-Security-Policy": POLICY, "X-Frame-Options": "DENY"}
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (named by the base class)
        """Log nothing: the terminal belongs to the server, and the address is secret."""


def _read(path: Path) -> bytes | None:
    """Return the content of a regular file, or None if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe must not stop the server
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        return file.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
