"""Tars are sent to a store once each, whoever is killed, and never over other bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reprise.artifacts.layout import SHARDS
from reprise.artifacts.shards import INDEX, Shards
from reprise.artifacts.tars.table import FILE, read_far
from reprise.config.errors import MachineError, RepriseError, ShardError, SourceError
from reprise.config.stores import FarParams
from reprise.storage.stores import in_order
from stages.shard import write
from tests.reprise.artifacts.tars.far_digits import packed
from tests.stages.ingest.remotes.conftest import BUCKET, KEY, SECRET, bucket, s3_server
from tests.workspace import make_shards

__all__ = ["bucket", "s3_server"]  # fixtures


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The current folder becomes a workspace with shards; returns the address of a folder for a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(in_order, "_PAUSE", 0.01)
    make_shards(120)
    return f"file://{tmp_path}/store"


def test_tars_lie_in_the_store_under_their_hashes_and_the_index_is_that_of_local_ones(digits: str) -> None:
    packed()
    local = {path.name: path.read_bytes() for path in Path(SHARDS).iterdir()}
    packed(digits)
    assert sorted(path.name for path in Path(SHARDS).iterdir()) == [FILE, INDEX]
    assert (Path(SHARDS) / INDEX).read_bytes() == local.pop(INDEX)
    table = read_far(Path(SHARDS))
    assert table is not None
    assert table.tars.keys() == local.keys()
    for name, tar in table.tars.items():
        data = (Path("store") / tar.object).read_bytes()
        assert data == local[name]
        assert (len(data), hashlib.sha256(data).hexdigest()) == (tar.bytes, tar.sha256)
    assert list(Path("work-of-shard").glob("*.tar")) == []  # they do not take room twice
    before = {path: path.stat().st_mtime_ns for path in Path("store").iterdir()}
    shutil.rmtree("work-of-shard")
    packed(digits)  # from nothing: what is there is not written again
    assert {path: path.stat().st_mtime_ns for path in Path("store").iterdir()} == before


def test_another_file_in_the_place_of_a_tar_is_never_written_over(digits: str) -> None:
    packed(digits)
    victim = min(Path("store").iterdir())
    victim.write_bytes(b"somebody else's")
    shutil.rmtree("work-of-shard")
    with pytest.raises(ShardError, match=rf"not written over.*{victim.name}.*15 bytes instead of"):
        packed(digits)
    assert victim.read_bytes() == b"somebody else's"


DYING = """
import os, signal, sys
from reprise.storage.stores.file_store import FileStore
from tests.reprise.artifacts.tars.far_digits import packed
original, sent = FileStore.send, []
def send(self, name, path, sha256):
    sent.append(name)
    if len(sent) > 2:
        with open(self._path(".partial-" + name), "wb") as file:  # as atomic_file does
            file.write(path.read_bytes()[:1000])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    original(self, name, path, sha256)
FileStore.send = send
packed(sys.argv[1])
"""


def test_killed_while_a_tar_is_sent_it_goes_on_with_the_others(
    digits: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(digits)
    whole = {path.name: path.read_bytes() for folder in (Path("store"), Path(SHARDS)) for path in folder.iterdir()}
    shutil.rmtree("store")
    shutil.rmtree("work-of-shard")
    env = os.environ | {"PYTHONPATH": str(repository)}
    died = subprocess.run([sys.executable, "-c", DYING, digits], env=env, check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    sent = {path.name for path in Path("store").iterdir() if path.name[0] != "."}
    assert 0 < len(sent) < len(whole) - 2
    noted = {path.name.removesuffix(".sent") for path in Path("work-of-shard").glob("*.sent")}
    written: list[str] = []
    write_shard = write.write_shard

    def counted(plan: Any, *arguments: Any) -> Any:
        written.append(plan.name)
        return write_shard(plan, *arguments)

    monkeypatch.setattr(write, "write_shard", counted)
    packed(digits)
    assert not noted & set(written)  # those are not packed again
    found = {path.name: path.read_bytes() for folder in (Path("store"), Path(SHARDS)) for path in folder.iterdir()}
    assert found.keys() - whole.keys() <= {name for name in found if name.startswith(".partial-")}
    assert {name: found[name] for name in whole} == whole


def test_a_resume_lists_the_store_once_and_asks_for_no_tar_that_is_there(
    digits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reprise.storage.stores.file_store import FileStore

    packed(digits)
    table = read_far(Path(SHARDS))
    assert table is not None
    asked: list[str] = []
    plain_look, plain_listing = FileStore.look, FileStore.listing

    def look(self: FileStore, name: str) -> Any:
        asked.append(name)
        return plain_look(self, name)

    def listing(self: FileStore) -> Any:
        asked.append("all")
        return plain_listing(self)

    monkeypatch.setattr(FileStore, "look", look)
    monkeypatch.setattr(FileStore, "listing", listing)
    packed(digits)
    assert asked == ["all"]
    gone = max(table.tars.values(), key=lambda tar: tar.sha256)
    (Path("store") / gone.object).unlink()
    asked.clear()
    packed(digits)  # it is packed and sent again, and nobody asks for the others
    assert asked == ["all", *[gone.object] * 3]
    assert (Path("store") / gone.object).stat().st_size == gone.bytes
    victim = Path("store") / gone.object
    victim.write_bytes(b"short")
    with pytest.raises(ShardError, match="not written over"):
        packed(digits)


@pytest.mark.parametrize("error", [SourceError, MachineError])
def test_a_resume_asks_for_each_tar_where_the_store_may_not_be_listed(
    digits: str, monkeypatch: pytest.MonkeyPatch, error: type[RepriseError]
) -> None:
    from reprise.storage.stores.file_store import FileStore

    packed(digits)
    whole = {path.name: path.read_bytes() for path in Path("store").iterdir()}

    def forbidden(self: FileStore) -> Any:
        raise error("the store fails", where="store", found="Forbidden", fix="Look at it.")

    monkeypatch.setattr(FileStore, "listing", forbidden)
    packed(digits)
    assert {path.name: path.read_bytes() for path in Path("store").iterdir()} == whole


def test_a_store_that_cannot_be_written_is_named(digits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from reprise.storage.stores.file_store import FileStore
    from reprise.storage.stores.store import UnreachableError

    def unreachable(*arguments: object) -> None:
        raise UnreachableError("the connection failed")

    monkeypatch.setattr(FileStore, "send", unreachable)
    with pytest.raises(MachineError, match=r"tar, to file:.*connection failed, 2 times"):
        packed(digits, far=FarParams(attempts=2))


@pytest.mark.slow
def test_s3_gets_the_tars_and_gives_them_back(
    bucket: Any, s3_server: str, digits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = FarParams(endpoint=s3_server, attempts=2)
    packed()
    shutil.copytree(SHARDS, "local")
    packed(f"s3://{BUCKET}/shards/of/digits", far=far)
    keys = [row["Key"] for row in bucket.list_objects_v2(Bucket=BUCKET)["Contents"]]
    table = read_far(Path(SHARDS))
    assert table is not None
    assert sorted(keys) == sorted(f"shards/of/digits/{tar.object}" for tar in table.tars.values())
    local, shards = Shards.open("local"), Shards.open(SHARDS, far)
    assert [shards.read(row) for row in range(len(shards))] == [local.read(row) for row in range(len(local))]
    shutil.rmtree(".reprise")
    bucket.put_object(Bucket=BUCKET, Key=keys[0], Body=b"short")
    with pytest.raises(ShardError, match=r"truncated in its store.*5 of [\d,]+ bytes"):
        Shards.open(SHARDS, far).verify()
    bucket.delete_object(Bucket=BUCKET, Key=keys[0])
    with pytest.raises(ShardError, match="is missing from its store"):
        Shards.open(SHARDS, far).verify()
    with pytest.raises(SourceError, match="refuses to be written.*NoSuchBucket"):
        packed("s3://no-such-bucket-of-ours/x", far=far)
    written = b"".join(path.read_bytes() for path in Path().rglob("*") if path.is_file() and "local" not in path.parts)
    assert KEY.encode() not in written
    assert SECRET.encode() not in written
