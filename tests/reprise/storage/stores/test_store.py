"""One store that several threads ask at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from reprise.config.texts.addresses import parse_address
from reprise.storage.stores import in_order
from reprise.storage.stores.in_order import patiently
from reprise.storage.stores.store import ANY, Object, Settings, open_store
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
