"""Shards and their index: random access, damage, processes."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import resource
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

import reprise.artifacts.tars.local
from reprise.artifacts.shards import INDEX_SCHEMA, Shards, write_index
from reprise.config.errors import MachineError, ShardError
from reprise.storage import ustar
from tests.small_shards import SIZES, make_shards, seed_of
from tests.stages.ingest.hostile import encoded, photo


def test_rows_are_read_by_split_and_sorted_by_key(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s")
    assert len(shards) == len(SIZES)
    assert shards.splits.tolist() == ["test"] + ["train"] * 4
    assert shards.rows("train").tolist() == [1, 2, 3, 4]
    assert shards.rows().tolist() == [0, 1, 2, 3, 4]
    assert sorted(shards.keys[1:]) == shards.keys[1:].tolist()
    for row in range(5):
        seed = seed_of(shards, row)
        assert shards.read(row) == encoded(photo(seed, *SIZES[seed]), "PNG")
        assert shards.groups[row] == (f"g{seed}" if seed % 2 else None)
    shards.verify()


def test_numbers_of_tars_take_a_few_bytes_an_image() -> None:
    n = 20_000
    names = [f"train-{i // 50:06d}.tar" for i in range(n)]
    columns = {
        "key": [f"{i:08d}" for i in range(n)], "split": ["train"] * n, "shard": names, "offset": list(range(n)),
        "bytes": [1] * n, "ext": ["png"] * n, "width": [1] * n, "height": [1] * n, "channels": [3] * n,
        "sha256": [""] * n, "group": [None] * n,
    }  # fmt: skip
    shards = Shards("nowhere", pa.table(columns, schema=INDEX_SCHEMA), "")
    tracemalloc.start()
    try:
        number, ends = shards.of_tar
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [shards.tar_names[i] for i in number.tolist()] == names
    assert ends.tolist() == [50 * (i + 1) for i in range(n // 50)]
    assert peak < 64 * n


def test_shards_cross_process_boundaries(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s")
    first = shards.read(2)
    assert pickle.loads(pickle.dumps(shards)).read(2) == first


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s")
    path = tmp_path / "s" / "train-000000.tar"
    os.truncate(path, 3000)
    with pytest.raises(ShardError, match=r"truncated.*train-000000\.tar"):
        [shards.read(row) for row in range(5)]
    with pytest.raises(ShardError, match=r"truncated.*train-000000\.tar"):
        Shards.open(tmp_path / "s")
    path.unlink()
    with pytest.raises(ShardError, match=r"missing.*train-000000\.tar"):
        Shards.open(tmp_path / "s")


def test_flipped_bits_are_found_by_verify(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s")
    path = tmp_path / "s" / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[ustar.BLOCK + 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match="does not hold what was written"):
        shards.verify()


def test_an_index_cannot_point_outside(tmp_path: Path) -> None:
    make_shards(tmp_path / "s")
    row = {
        "key": "0" * 24,
        "split": "train",
        "shard": "../secret",
        "offset": 0,
        "bytes": 1,
        "ext": "png",
        "width": 1,
        "height": 1,
        "channels": 1,
        "sha256": "",
        "group": None,
    }
    write_index(tmp_path / "s" / "index.parquet", pa.Table.from_pylist([row], schema=INDEX_SCHEMA))
    with pytest.raises(ShardError, match="outside its folder"):
        Shards.open(tmp_path / "s")


def test_the_fingerprint_changes_with_the_content(tmp_path: Path) -> None:
    first, same = make_shards(tmp_path / "a"), make_shards(tmp_path / "b")
    other = make_shards(tmp_path / "c", SIZES[:4])
    assert first.fingerprint == same.fingerprint != other.fingerprint


def many_tars(folder: Path, count: int) -> tuple[Shards, list[bytes]]:
    """A folder of tars with one image each, and the images' bytes by row."""
    rows, images = [], {}
    folder.mkdir()
    for i in range(count):
        data = b"%d" % i * 7
        key = hashlib.sha256(data).hexdigest()
        images[key[:24]] = data
        (folder / f"train-{i:06d}.tar").write_bytes(ustar.member(f"{key[:24]}.png", data) + ustar.END)
        rows.append(
            {
                "key": key[:24],
                "split": "train",
                "shard": f"train-{i:06d}.tar",
                "offset": ustar.BLOCK,
                "bytes": len(data),
            }
            | {"ext": "png", "width": 1, "height": 1, "channels": 1, "sha256": key, "group": None}
        )
    write_index(folder / "index.parquet", pa.Table.from_pylist(rows, schema=INDEX_SCHEMA))
    shards = Shards.open(folder)
    return shards, [images[key] for key in shards.keys]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_bounded_number_of_tars_is_open_whatever_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, images = many_tars(tmp_path / "s", 60)
    monkeypatch.setattr(reprise.artifacts.tars.local, "most_open_tars", lambda: 5)
    before = open_files()
    order = [row for start in range(7) for row in range(start, 60, 7)]
    assert [shards.read(row) for row in order] == [images[row] for row in order]
    assert open_files() == before + 5
    shards.verify()
    assert open_files() == before + 5
    shards.close()
    assert open_files() == before
    assert shards.read(3) == images[3]
    del shards
    assert open_files() == before


def test_threads_may_read_tars_that_others_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, images = many_tars(tmp_path / "s", 40)
    monkeypatch.setattr(reprise.artifacts.tars.local, "most_open_tars", lambda: 2)
    rows = [(row * 13) % 40 for row in range(4000)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shards.read, rows, chunksize=50)) == [images[row] for row in rows]


def test_the_number_of_open_tars_follows_the_limit_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, most in ((1024, 128), (64, 8), (20, 4), (1 << 20, 256), (resource.RLIM_INFINITY, 256)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert reprise.artifacts.tars.local.most_open_tars() == most


def test_open_files_that_others_took_are_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, images = many_tars(tmp_path / "s", 6)
    shards.read(0)
    opened, allowed = os.open, [1]

    def scarce(path: object, flags: int) -> int:
        if not allowed.pop(0):
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path, flags)

    monkeypatch.setattr(os, "open", scarce)
    allowed[:] = [0, 1]  # there is none, until this reader closes its own
    assert shards.read(1) == images[1]
    allowed[:] = [0, 0]
    with pytest.raises(MachineError, match=r"because of the machine.*Too many open files.*ulimit -n"):
        shards.read(2)
