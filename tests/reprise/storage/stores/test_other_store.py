"""Stores by what every file system of fsspec has: one that stands for Google's, and stores without their package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest

from reprise.config.errors import MachineError, SourceError
from reprise.storage.stores import in_order
from stages.ingest.sources.remote import Remote
from tests.stages.ingest import hostile


class Files:
    """A bucket of Google's as gcsfs shows one: paths without the protocol, and generations."""

    def __init__(self) -> None:
        self.content = {
            f"bucket/set/{name}": hostile.encoded(hostile.photo(i), "PNG")
            for i, name in enumerate(["cat/1.png", "cat/2.png", "dog/3.png"])
        } | {"bucket/set-2/4.png": b"x", "bucket/set/cat/": b""}
        self.generation = dict.fromkeys(self.content, 1)
        self.failures = 0

    def find(self, place: str, detail: bool) -> dict[str, dict[str, Any]]:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("token secret=hunter2 expired")
        return {path: self.info(path) for path in self.content if path.startswith(place)}

    def info(self, path: str) -> dict[str, Any]:
        if path not in self.content:
            raise FileNotFoundError(path)
        size = len(self.content[path])
        return {"name": path, "size": size, "type": "file", "generation": str(self.generation[path])}

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        if path not in self.content:
            raise FileNotFoundError(path)
        return self.content[path][start:end]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(in_order, "_PAUSE", 0.001)
    found = Files()
    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **__: found)
    return found


def source(**options: object) -> Remote:
    return Remote("gs://bucket/set", Remote.Params(**{"attempts": 2, "threads": 2, **options}))


def outcome(one: Remote) -> dict[str, str]:
    return {item.name.removeprefix("gs://bucket/set/"): getattr(item, "reason", "") for item in one.candidates()}


def test_objects_are_listed_with_their_generations_and_fetched(files: Files) -> None:
    first = source().extent()
    assert first.files == 3
    assert outcome(source()) == {"cat/1.png": "", "cat/2.png": "", "dog/3.png": ""}
    files.generation["bucket/set/cat/1.png"] += 1
    assert source().extent().digest != first.digest
    Path("names.txt").write_text("dog/3.png\ndog/4.png\n", encoding="utf-8")
    assert outcome(source(names="names.txt")) == {"dog/3.png": "", "dog/4.png": "unreadable"}


def test_objects_that_change_after_the_listing_are_refused(files: Files) -> None:
    one = source()
    one.extent()
    files.generation["bucket/set/cat/1.png"] += 1
    files.content["bucket/set/cat/2.png"] += b"more"
    del files.content["bucket/set/dog/3.png"]
    assert set(outcome(one).values()) == {"changed_while_reading"}


def test_a_failure_is_tried_again_and_its_text_is_never_shown(files: Files) -> None:
    files.failures = 1
    assert source().extent().files == 3
    files.failures = 9
    with pytest.raises(MachineError, match=r"fails \(RuntimeError\)") as ended:
        source().extent()
    assert "hunter2" not in str(ended.value)


@pytest.mark.parametrize(
    ("error", "words"), [(PermissionError, "refuses to be listed"), (FileNotFoundError, "nothing at this")]
)
def test_a_bucket_that_may_not_be_listed_is_a_sentence(
    files: Files, monkeypatch: pytest.MonkeyPatch, error: type[Exception], words: str
) -> None:
    def refuse(place: str, detail: bool) -> Any:
        raise error("bucket")

    monkeypatch.setattr(files, "find", refuse)
    with pytest.raises(SourceError, match=words):
        source().extent()


@pytest.mark.parametrize(
    ("address", "module", "words"), [("s3://b/x", "s3fs", "reprise.s3"), ("gs://b/x", "gcsfs", "gcsfs")]
)
def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, address: str, module: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SourceError, match=f"pip install .?{words}"):
        Remote(address, Remote.Params()).extent()
