"""A web server of this machine that behaves as the tests ask, and keeps what was asked of it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler", bytes], None]


@dataclass
class Web:
    """The server's files, what is odd about some of them, and the number of requests of each."""

    files: dict[str, bytes] = field(default_factory=dict)
    odd: dict[str, Answer] = field(default_factory=dict)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    address: str = ""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    web: Web

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.web.asked[self.command, self.path] += 1
        data = self.web.files.get(self.path)
        if self.path in self.web.odd:
            self.web.odd[self.path](self, data or b"")
        elif data is None:
            self.plain(404, b"")
        else:
            self.plain(200, data)

    def plain(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", '"' + hashlib.md5(data).hexdigest() + '"')
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Stay silent."""


def failing(times: int, status: int = 503, method: str = "GET") -> Answer:
    """Fail the first requests of a method, then answer."""
    left = [times]

    def answer(handler: Handler, data: bytes) -> None:
        if handler.command == method and left[0] > 0:
            left[0] -= 1
            handler.plain(status, b"")
        else:
            handler.plain(200, data)

    return answer


def stalling(seconds: float) -> Answer:
    """Answer the head, then stay silent."""

    def answer(handler: Handler, data: bytes) -> None:
        if handler.command == "GET":
            time.sleep(seconds)
        handler.plain(200, data)

    return answer


def short(handler: Handler, data: bytes) -> None:
    """State the whole length and send half."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.send_header("ETag", '"' + hashlib.md5(data).hexdigest() + '"')
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(data[: len(data) // 2])
        handler.wfile.flush()
        handler.close_connection = True


def dripping(handler: Handler, data: bytes) -> None:
    """Send a byte at a time, with pauses that no timeout notices."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.send_header("ETag", '"' + hashlib.md5(data).hexdigest() + '"')
    handler.end_headers()
    try:
        for i in range(len(data) if handler.command == "GET" else 0):
            handler.wfile.write(data[i : i + 1])
            time.sleep(0.02)
    except OSError:
        handler.close_connection = True


def redirecting(target: str) -> Answer:
    return lambda handler, _: handler.plain(302, b"", Location=target)


def changing(handler: Handler, data: bytes) -> None:
    """Be another file, of the same length, once it is fetched."""
    handler.plain(200, data if handler.command == "HEAD" else data[::-1])


def endless(handler: Handler, _: bytes) -> None:
    """Send pieces without stating a length, for as long as somebody listens."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    try:
        while handler.command == "GET":
            handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
    except OSError:
        handler.close_connection = True


def without_version(handler: Handler, data: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(data)


def only_get(handler: Handler, data: bytes) -> None:
    handler.plain(405 if handler.command == "HEAD" else 200, b"" if handler.command == "HEAD" else data)


@contextmanager
def serving() -> Iterator[Web]:
    """Run a server until the end of the block."""
    web = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"web": web}))
    server.daemon_threads = True
    web.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
