"""Shards and their index: random access, damage, processes."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import random
import resource
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import reprise.artifacts.shards
import reprise.artifacts.tars.local
from reprise.artifacts.shards import INDEX_SCHEMA, Shards, index_schema, read_index, write_index
from reprise.artifacts.tables import parquet
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
    assert shards.rows_of(shards.keys[[4, 1]]).tolist() == [4, 1]
    with pytest.raises(ShardError, match="1 images missing, such as elsewhere"):
        shards.rows_of(np.array([shards.keys[0], "elsewhere"], object))
    shards.verify()


def test_numbers_of_tars_take_a_few_bytes_an_image() -> None:
    n = 20_000
    names = [f"train-{i // 50:06d}.tar" for i in range(n)]
    columns = {
        "key": [f"{i:08d}" for i in range(n)], "split": ["train"] * n, "shard": names, "offset": list(range(n)),
        "bytes": [1] * n, "ext": ["png"] * n, "width": [1] * n, "height": [1] * n, "channels": [3] * n,
        "sha256": [""] * n, "group": [None] * n,
    }  # fmt: skip
    shards = Shards("nowhere", [pa.table(columns, schema=INDEX_SCHEMA)])
    tracemalloc.start()
    try:
        number, ends = shards.of_tar
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [shards.tar_names[i] for i in number.tolist()] == names
    assert ends.tolist() == [50 * (i + 1) for i in range(n // 50)]
    assert peak < 64 * n


def rows_of_tars(count: int, tars: int, key: str = "{:024x}", **more: Any) -> pa.Table:
    """Rows of an index, whose images lie in turn in several tars."""
    rows = [
        {
            "key": key.format(i * 7919 % 100_003),
            "split": ("train", "val", "test")[i % 3],
            "shard": f"{i % tars:06d}.tar",
            "offset": 512 + i // tars * 1000,
            "bytes": i % 1000,
            "ext": "png",
            "width": i % 300 + 1,
            "height": 65_536 + i,
            "channels": i % 5 + 1,
            "sha256": f"{i:064x}",
            "group": None if i % 4 else f"g{i}",
        }
        | more
        for i in range(count)
    ]
    return pa.Table.from_pylist(rows, index_schema(INDEX_SCHEMA.names + list(more)))


def with_tars(folder: Path, table: pa.Table) -> Path:
    """Write an index, and tars that are as long as it says and hold nothing."""
    folder.mkdir()
    write_index(folder / "index.parquet", table)
    for row in table.to_pylist():
        path = folder / row["shard"]
        size = max(row["offset"] + row["bytes"], path.stat().st_size if path.exists() else 0)
        path.touch()
        os.truncate(path, size)
    return folder


@pytest.mark.parametrize(
    ("count", "tars", "more"),
    [
        (0, 1, {}),
        (1, 1, {}),
        (100, 1, {"key": "bär 象 {}"}),
        (1000, 3, {}),
        (700, 300, {}),
        (50, 2, {"depth": 9, "modality": "volume"}),
    ],
)
def test_columns_are_those_of_a_naive_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, tars: int, more: dict[str, Any]
) -> None:
    folder = with_tars(tmp_path / "s", rows_of_tars(count, tars, **more))
    rows = read_index(folder).to_pylist()
    for part in (7, 1 << 16):
        monkeypatch.setattr(parquet, "PART", part)
        monkeypatch.setattr(reprise.artifacts.shards, "PART", part)
        shards = Shards.open(folder)
        for ours, name in (("keys", "key"), ("splits", "split"), ("widths", "width"), ("heights", "height")):
            assert getattr(shards, ours).tolist() == [row[name] for row in rows]
        assert shards.channels.tolist() == [row["channels"] for row in rows]
        assert (shards.depths is None) == ("depth" not in more)
        assert shards.modality == more.get("modality", "image")
        axes = [*(["depth"] if "depth" in more else []), "height", "width"]
        assert shards.sides.tolist() == [[row[axis] for axis in axes] for row in rows]
        assert [list(shards.sides_of(i)) for i in range(count)] == shards.sides.tolist()
        names = sorted({row["shard"] for row in rows})
        assert shards.tar_names == names
        number, ends = shards.of_tar
        assert number.tolist() == [names.index(row["shard"]) for row in rows]
        assert ends.tolist() == [max(r["offset"] + r["bytes"] for r in rows if r["shard"] == name) for name in names]
        for split in ("train", "val", "test", "other"):
            assert shards.rows(split).tolist() == [i for i, row in enumerate(rows) if row["split"] == split]
        assert [len(shards.read(i)) for i in range(count)] == [row["bytes"] for row in rows]


def test_an_open_index_takes_less_than_sixty_bytes_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 20_000
    folder = with_tars(tmp_path / "s", rows_of_tars(n, 3))
    monkeypatch.setattr(parquet, "PART", 1000)
    Shards.open(folder)  # what is needed once
    pools = pa.default_memory_pool(), pa.system_memory_pool()
    before = sum(pool.bytes_allocated() for pool in pools)
    tracemalloc.start()
    try:
        shards = Shards.open(folder)
        python, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(shards) == n
    assert python + sum(pool.bytes_allocated() for pool in pools) - before < 60 * n
    assert peak < 60 * n  # no object for each image on the way, either


def test_a_damaged_index_gives_the_sentence_of_the_whole_table(tmp_path: Path) -> None:
    folder = with_tars(tmp_path / "s", rows_of_tars(400, 3))
    path = folder / "index.parquet"
    whole, rng, refused = path.read_bytes(), random.Random(0), 0

    def said(read: Callable[[], object]) -> str:
        try:
            read()
        except ShardError as error:
            return str(error)
        return "read"

    for number in range(300):
        data = bytearray(whole)
        if number % 3:
            for _ in range(rng.choice((1, 4, 40))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        else:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(data)
        expected = said(lambda: read_index(folder))
        refused += expected != "read"
        if expected != "read":
            assert said(lambda: Shards.open(folder)) == expected
        else:
            said(lambda: Shards.open(folder))  # a sentence, if anything
    assert refused > 100
    path.unlink()
    assert said(lambda: Shards.open(folder)) == said(lambda: read_index(folder))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"offset": -1}, "a place that cannot be.*offset.*-1"),
        ({"bytes": -5}, "a place that cannot be.*bytes.*-5"),
        ({"offset": 2**63 - 1, "bytes": 2**63 - 1}, "truncated"),
        ({"offset": 2**62, "bytes": 9}, "truncated"),
        ({"shard": "../secret"}, "outside its folder"),
        ({"shard": ".hidden"}, "outside its folder"),
        ({"shard": "other.tar"}, "a shard is missing"),
    ],
)
def test_an_index_from_elsewhere_is_not_believed(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    folder = with_tars(tmp_path / "s", rows_of_tars(20, 2))
    row = {name: column[:1] for name, column in rows_of_tars(1, 1).to_pydict().items()} | {
        k: [v] for k, v in more.items()
    }
    table = pa.concat_tables([rows_of_tars(20, 2).slice(1), pa.table(row, schema=INDEX_SCHEMA)])
    write_index(folder / "index.parquet", table)
    with pytest.raises(ShardError, match=words):
        Shards.open(folder)


def test_empty_values_are_counted_over_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = with_tars(tmp_path / "s", rows_of_tars(30, 2))
    for name in ("key", "shard", "offset", "width"):
        table = rows_of_tars(30, 2)
        values = [None if i % 9 == 0 else value for i, value in enumerate(table[name].to_pylist())]
        at = table.column_names.index(name)
        pq.write_table(
            table.set_column(at, pa.field(name, table[name].type), pa.array(values, table[name].type)),
            folder / "index.parquet",
        )
        monkeypatch.setattr(parquet, "PART", 7)
        with pytest.raises(ShardError, match=f"column '{name}' must not have empty values.*4 empty"):
            Shards.open(folder)


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
