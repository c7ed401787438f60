"""One store that several threads ask at once."""

from __future__ import annotations

import errno
import hashlib
import io
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from reprise.config.errors import MachineError
from reprise.config.texts.addresses import parse_address
from reprise.storage import atomic
from reprise.storage.stores import file_store, in_order
from reprise.storage.stores.in_order import patiently
from reprise.storage.stores.store import ANY, Object, Settings, UnreachableError, open_store
from reprise.storage.system.refusals import refusal
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


@pytest.mark.parametrize("protocol", ["s3", "http"])
def test_a_server_that_never_answers_ends_in_a_sentence(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_order, "_PAUSE", 0.001)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = Settings(endpoint=endpoint, timeout=0.3, attempts=2)
        store = open_store(parse_address("s3://bucket/prefix" if protocol == "s3" else f"{endpoint}/prefix"), settings)
        asking = [lambda: store.look("tar"), lambda: list(store.describe(["tar"]))]
        if protocol == "s3":
            asking.append(lambda: next(store.listing()))
        for ask in asking:
            with pytest.raises(MachineError, match="a store cannot be read over the network.*2 times in a row"):
                ask()
        with pytest.raises(UnreachableError):
            store.fetch(Object("tar", 5, ANY), 5, print)


def test_the_client_of_google_has_the_timeout_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(fsspec, "filesystem", lambda protocol, **options: asked.update(options))
    open_store(parse_address("gs://bucket/prefix"), Settings(timeout=7.0, anonymous=True))
    timeout = asked["session_kwargs"]["timeout"]
    assert (timeout.sock_connect, timeout.sock_read, timeout.total) == (7.0, 7.0, None)
    assert (asked["token"], asked["use_listings_cache"]) == ("anon", False)


@pytest.mark.parametrize("broken", ["source", "target"])
def test_a_copy_into_a_folder_names_the_file_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    (tmp_path / "tar").write_bytes(b"x" * 100)
    store = open_store(parse_address(f"file://{tmp_path}/store"), Settings())

    class Broken(io.BytesIO):
        def read(self, *arguments: Any) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    if broken == "source":
        monkeypatch.setattr(file_store, "open", lambda path, mode: Broken(), raising=False)
    else:
        monkeypatch.setattr(atomic.os, "fsync", lambda descriptor: Broken().read())
    with pytest.raises(OSError, match="Input/output error") as caught:
        store.send("object", tmp_path / "tar", "")
    said = refusal(caught.value)
    assert said is not None
    assert said.where == str(tmp_path / {"source": "tar", "target": "store/object"}[broken])
    assert list((tmp_path / "store").iterdir()) == []


def test_what_was_sent_is_removed_again(tmp_path: Path) -> None:
    (tmp_path / "tar").write_bytes(b"x")
    store = open_store(parse_address(f"file://{tmp_path}/store"), Settings())
    store.send("object", tmp_path / "tar", "")
    assert store.look("object").size == 1
    store.remove("object")
    assert store.look("object").problem
