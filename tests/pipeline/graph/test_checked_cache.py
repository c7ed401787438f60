"""The cache that DVC works with: what it says is there, what it stores, and what it sets aside."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MD5 = hashlib.md5(b"right").hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty cache; refusals are those of a process that has just started in an empty project."""
    monkeypatch.chdir(tmp_path)
    from dvc_objects.fs.local import LocalFileSystem

    from pipeline.graph.in_dvc import cache as module
    from pipeline.graph.in_dvc.refusals import Refusals

    refusals = Refusals()
    monkeypatch.setattr(module, "REFUSALS", refusals)
    monkeypatch.setattr(module, "HASHES", module.ContentHashes(tmp_path / ".reprise/hashes.sqlite"))
    checked = module.CheckedCache(LocalFileSystem(), str(tmp_path / "cache"))
    checked.refusals = refusals
    return checked


def place(cache: Any, data: bytes, name: str = MD5) -> Path:
    path = Path(cache.oid_to_path(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o444)  # DVC takes what has this mode for the object
    return path


def test_right_objects_are_there(cache: Any) -> None:
    place(cache, b"right")
    assert cache.check(MD5).size == 5
    assert cache.oids_exist([MD5, "0" * 32, "../evil"]) == [MD5]
    assert not cache.refusals.foreign


def test_altered_objects_links_and_pipes_count_as_missing_and_are_set_aside(
    cache: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for irregular in ("bytes", "link", "pipe"):
        path = place(cache, b"wrong")
        if irregular != "bytes":
            path.unlink()
            os.mkfifo(path) if irregular == "pipe" else path.symlink_to("/dev/zero")
        with pytest.raises(FileNotFoundError):
            cache.check(MD5)
        assert not os.path.lexists(path)
    assert (tmp_path / ".reprise/refused" / MD5).exists()
    assert capsys.readouterr().err.startswith(f"refused: DVC's cache holds an object {MD5}")


def test_an_object_is_stored_again_from_the_output_that_has_its_bytes(cache: Any, tmp_path: Path) -> None:
    path = place(cache, b"wrong")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x").write_bytes(b"right")
    cache.refusals.paths[MD5] = ["data/y", "data/x"]
    assert cache.check(MD5).size == 5
    assert path.read_bytes() == b"right"
    path.unlink()
    assert cache.check(MD5).size == 5  # a missing one likewise
    (tmp_path / "data/x").write_bytes(b"other")
    path.unlink()
    place(cache, b"wrong")
    assert cache.oids_exist([MD5]) == []


def stored(cache: Any, source: Path, name: str, *, verify: bool) -> list[str]:
    """Let DVC's cache store a file, from a remote with `verify`; return the names that failed."""
    failed: list[str] = []
    cache.add(str(source), cache.fs, name, verify=verify, on_error=lambda oid, error: failed.append(oid))
    return failed


def test_what_comes_from_a_remote_is_checked(cache: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"wrong")
    assert stored(cache, source, MD5, verify=True) == [MD5]
    assert cache.refusals.foreign
    assert cache.oids_exist([MD5]) == []
    source.write_bytes(b"right")
    assert stored(cache, source, MD5, verify=True) == []
    assert cache.oids_exist([MD5]) == [MD5]


def test_what_a_stage_still_writes_is_not_stored(cache: Any, tmp_path: Path) -> None:
    from dvc.exceptions import DvcException

    source = tmp_path / "source"
    source.write_bytes(b"wrong")
    with pytest.raises(DvcException, match="it changed while it was stored"):
        stored(cache, source, MD5, verify=False)
    assert not cache.refusals.foreign
    assert cache.oids_exist([MD5]) == []


def test_a_full_disk_of_the_cache_is_an_error(cache: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC itself goes on, and records outputs that it does not have."""
    from dvc.exceptions import DvcException
    from dvc_objects.fs import generic

    def full(*args: Any, on_error: Any, **options: Any) -> None:
        on_error(args[1][0], args[3][0], OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(generic, "transfer", full)
    (tmp_path / "source").write_bytes(b"right")
    with pytest.raises(DvcException, match=r"cannot be stored in DVC's cache .* disk is full .* Free some space"):
        stored(cache, tmp_path / "source", MD5, verify=False)


def test_nothing_that_cannot_be_right_is_fetched_from_a_remote(cache: Any, tmp_path: Path) -> None:
    source, listing = tmp_path / "source", MD5 + ".dir"
    cache.refusals.sizes[MD5] = 1000
    for kind in ("huge", "device", "pipe"):
        source.unlink(missing_ok=True)
        if kind == "huge":
            source.touch()
            os.truncate(source, 1 << 40)
        elif kind == "pipe":
            os.mkfifo(source)
        else:
            source.symlink_to("/dev/zero")
        for name in (MD5, listing):
            assert stored(cache, source, name, verify=True) == [name]
            assert not os.path.lexists(cache.oid_to_path(name))


def test_listings_are_checked_wherever_they_lie(cache: Any, tmp_path: Path) -> None:
    from dvc_data.hashfile.db import HashFileDB
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    from pipeline.graph.in_dvc.cache import load_listing

    data = json.dumps([{"md5": MD5, "relpath": "a/b"}]).encode()
    name = hashlib.md5(data).hexdigest() + ".dir"
    place(cache, data, name)
    cache.refusals.paths[name] = ["data/out"]
    tree = load_listing(Tree, cache, HashInfo("md5", name))
    assert tree.as_dict().keys() == {("a", "b")}
    assert cache.refusals.owner(MD5) == f"{MD5} of data/out/a/b"
    evil = json.dumps([{"md5": MD5, "relpath": "../../evil.py"}]).encode()
    name = hashlib.md5(evil).hexdigest() + ".dir"  # right by its hash: an entry of the run cache may name it
    place(cache, evil, name)
    for store, foreign in ((HashFileDB(cache.fs, cache.path), True), (cache, False)):
        cache.refusals.foreign = False
        with pytest.raises(FileNotFoundError):
            load_listing(Tree, store, HashInfo("md5", name))
        assert cache.refusals.foreign is foreign
    assert not os.path.exists(cache.oid_to_path(name))
