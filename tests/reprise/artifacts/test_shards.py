"""Shards and their index: random access, damage, processes."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from reprise.artifacts.shards import INDEX_SCHEMA, Shards, write_index
from reprise.config.errors import ShardError
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
