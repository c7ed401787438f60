"""One store that several threads ask at once."""

from __future__ import annotations

import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reprise.config.texts.addresses import parse_address
from reprise.storage.stores import in_order
from reprise.storage.stores.in_order import patiently
from reprise.storage.stores.store import ANY, Object, Settings, UnreachableError, open_store
from tests.reprise.storage.stores.web import failing, serving


def test_a_look_at_one_object_ends_no_further_attempt_at_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_order, "_PAUSE", 0.3)
    with serving() as web, ThreadPoolExecutor(1) as other:
        web.files = {"/a": b"first", "/b": b"second"}
        web.odd["/a"] = failing(2)
        store, pieces = open_store(parse_address(web.address), Settings(timeout=5.0)), list[bytes]()

        def fetch() -> None:
            store.fetch(Object("a", 5, ANY), 5, pieces.append)

        fetched = other.submit(patiently, fetch, store.settings, "a")
        while not fetched.done():
            assert store.look("b").size == 6
        fetched.result()
        assert b"".join(pieces) == b"first"


def test_a_store_that_stops_taking_a_file_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    path = tmp_path / "tar"
    path.write_bytes(bytes(16 << 20))  # more than the system holds for a server that does not read
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as other:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = open_store(parse_address("s3://bucket/prefix"), Settings(endpoint=endpoint, timeout=0.5))
        sent = other.submit(store.send, "tar", path, hashlib.sha256(path.read_bytes()).hexdigest())
        connection, _ = silent.accept()
        with connection, pytest.raises(UnreachableError, match=r"takes no byte for 0\.5 seconds"):
            sent.result(timeout=20)
