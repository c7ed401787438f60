"""Shards, index and decoded cache: random access, damage, concurrency, bounds."""

from __future__ import annotations

import errno
import hashlib
import io
import multiprocessing
import os
import pickle
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reprise.artifacts.shards import INDEX_SCHEMA, Shards, write_index
from reprise.config.errors import ImageRefused, ShardError
from reprise.media.image.image import Image
from reprise.media.image.transform import resize_to_square
from reprise.reading.decoded import open_decoded
from reprise.storage import ustar
from tests.stages.ingest.hostile import encoded, photo

SIZES = [(24, 32), (24, 32), (16, 16), (40, 20), (24, 32)]


def make_shards(
    directory: Path, sizes: list[tuple[int, int]] = SIZES, split: str = "train", spoil: int | None = None
) -> Shards:
    """A shards folder with one tar of photos, written here by hand; `spoil`: row whose bytes are no image."""
    directory.mkdir(parents=True)
    rows, tar = [], b""
    for seed, (height, width) in enumerate(sizes):
        data = b"no image" if seed == spoil else encoded(photo(seed, height, width), "PNG")
        key = hashlib.sha256(b"%d" % seed).hexdigest()[:24]
        facts = {
            "key": key,
            "split": split if seed else "test",
            "shard": "train-000000.tar",
            "offset": len(tar) + ustar.BLOCK,
            "bytes": len(data),
        }
        facts |= {
            "ext": "png",
            "width": width,
            "height": height,
            "channels": 3,
            "sha256": hashlib.sha256(data).hexdigest(),
            "group": f"g{seed}" if seed % 2 else None,
        }
        rows.append(facts)
        tar += ustar.member(f"{key}.png", data)
    (directory / "train-000000.tar").write_bytes(tar + ustar.END)
    write_index(directory / "index.parquet", pa.Table.from_pylist(rows, schema=INDEX_SCHEMA))
    return Shards.open(directory)


def seed_of(shards: Shards, row: int) -> int:
    return next(s for s in range(20) if hashlib.sha256(b"%d" % s).hexdigest()[:24] == shards.keys[row])


def test_ustar_is_what_tarfile_reads_and_says() -> None:
    data = ustar.member("a.png", b"hello") + ustar.member("b" * 96 + ".bin", bytes(range(256)) * 4) + ustar.END
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        assert [(m.name, m.size, m.mtime, m.uid, m.isreg()) for m in members] == [
            ("a.png", 5, 0, 0, True),
            ("b" * 96 + ".bin", 1024, 0, 0, True),
        ]
        assert archive.extractfile(members[1]).read() == bytes(range(256)) * 4
    assert len(data) == ustar.member_size(5) + ustar.member_size(1024) + len(ustar.END)
    with pytest.raises(ValueError, match="100 characters"):
        ustar.header("x" * 101, 1)


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


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_many_sizes_come_back_as_they_are(tmp_path: Path, channels: int) -> None:
    shards = make_shards(tmp_path / "s")
    rows = np.array([4, 0, 2])
    pixels = open_decoded(shards, rows, channels, cache=tmp_path / "cache")
    assert pixels.cached
    assert pixels.uniform is None
    assert pixels.images is None
    assert len(pixels) == 3
    for i, row in enumerate(rows):
        expected = photo(seed_of(shards, row), *SIZES[seed_of(shards, row)])
        assert pixels.image(i).shape == (*expected.shape[:2], channels)
        if channels == 3:
            assert np.array_equal(pixels.image(i), expected)
            assert np.array_equal(pixels.resized(12)[i], resize_to_square(expected, 12))
    with pytest.raises(IndexError):
        pixels.image(3)


def test_images_of_one_size_are_one_array(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s", [(8, 8)] * 6)
    pixels = open_decoded(shards, shards.rows("train"), 3, cache=tmp_path / "cache")
    assert pixels.uniform == (8, 8)
    assert pixels.images.shape == (5, 8, 8, 3)
    assert np.array_equal(pixels.images[2], pixels.image(2))
    assert np.array_equal(pixels.resized(8), pixels.images)
    with pytest.raises(ValueError, match="read-only"):
        pixels.images[0] = 0


def test_a_size_makes_all_images_squares(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s")
    small = open_decoded(shards, shards.rows(), 3, size=10, cache=tmp_path / "cache")
    assert small.images.shape == (5, 10, 10, 3)
    assert np.array_equal(small.images, open_decoded(shards, shards.rows(), 3, cache=tmp_path / "cache").resized(10))


def test_beyond_the_bound_images_are_decoded_on_access_with_the_same_result(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s")
    cached = open_decoded(shards, shards.rows(), 3, cache=tmp_path / "cache")
    direct = open_decoded(shards, shards.rows(), 3, cache=tmp_path / "none", max_bytes=100)
    assert cached.cached
    assert not direct.cached
    assert not (tmp_path / "none").exists()
    assert np.array_equal(cached.resized(9), direct.resized(9))
    assert all(np.array_equal(cached.image(i), direct.image(i)) for i in range(5))


@pytest.mark.parametrize("uniform", [True, False])
def test_some_rows_are_resized_as_they_are_among_all(tmp_path: Path, uniform: bool) -> None:
    shards = make_shards(tmp_path / "s", [(8, 8)] * 6) if uniform else make_shards(tmp_path / "s")
    pixels = open_decoded(shards, shards.rows(), 3, cache=tmp_path / "cache")
    for size in (8, 11):
        assert np.array_equal(pixels.resized(size, range(1, 5, 2)), pixels.resized(size)[1:5:2])


def test_older_entries_make_room(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s", [(16, 16)] * 4)
    cache, one = tmp_path / "cache", 3 * 16 * 16 * 3
    for number, rows in enumerate(([0, 1, 2], [1, 2, 3], [0, 2, 3])):
        open_decoded(shards, np.array(rows), 3, cache=cache, max_bytes=2 * one)
        for entry in cache.glob("[!.]*"):
            os.utime(entry, ns=(number, number)) if entry.stat().st_mtime > 1e6 else None
    assert sum(p.stat().st_size for p in cache.glob("*/pixels.bin")) == 2 * one
    again = open_decoded(shards, np.array([0, 2, 3]), 3, cache=cache, max_bytes=2 * one)
    assert again.cached


def test_threads_do_not_change_the_result(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s", [(8 + s % 5, 9) for s in range(20)])
    rows = np.tile(shards.rows(), 40)
    one = open_decoded(shards, rows, 3, size=7, cache=tmp_path / "a", threads=1)
    four = open_decoded(shards, rows, 3, size=7, cache=tmp_path / "b", threads=4)
    assert np.array_equal(one.images, four.images)


def test_a_cache_of_another_length_is_built_again(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s")
    expected = open_decoded(shards, shards.rows(), 3, cache=tmp_path / "cache").resized(9)
    (path,) = (tmp_path / "cache").glob("*/pixels.bin")
    os.truncate(path, 10)
    assert np.array_equal(open_decoded(shards, shards.rows(), 3, cache=tmp_path / "cache").resized(9), expected)


def test_a_full_disk_costs_the_cache_and_not_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = make_shards(tmp_path / "s")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    pixels = open_decoded(shards, shards.rows(), 3, cache=tmp_path / "cache")
    assert not pixels.cached
    assert np.array_equal(pixels.image(0), photo(0, 24, 32))
    assert list((tmp_path / "cache").glob("*/pixels.bin")) == []


def test_stored_bytes_that_are_no_image_are_an_error_that_names_the_key(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s", spoil=2)
    with pytest.raises(ImageRefused, match=r"key [0-9a-f]{24}"):
        open_decoded(shards, shards.rows(), 3, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*/pixels.bin")) == []


def test_a_size_that_is_not_the_index_s_is_an_error(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s")
    shards.heights[1] += 1
    with pytest.raises(ShardError, match="another size"):
        open_decoded(shards, shards.rows(), 3, cache=tmp_path / "cache")


def test_no_rows_are_no_images(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s")
    nothing = open_decoded(shards, shards.rows("val"), 3, cache=tmp_path / "cache")
    assert len(nothing) == 0
    assert nothing.uniform is None
    assert nothing.resized(4).shape == (0, 4, 4, 3)


def _build_slowly(directory: Path, cache: Path, log: Path) -> None:
    shards = Shards.open(directory)
    decode = Image.decode

    def slow(*args: object, **options: object) -> np.ndarray:
        with open(log, "a") as file:
            file.write("decoded\n")
        time.sleep(0.05)
        return decode(*args, **options)

    Image.decode = slow  # type: ignore[method-assign, assignment]
    pixels = open_decoded(shards, shards.rows(), 3, cache=cache)
    assert np.array_equal(pixels.image(0), photo(0, 24, 32))


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    make_shards(tmp_path / "s")
    context = multiprocessing.get_context("spawn")
    builders = [
        context.Process(target=_build_slowly, args=(tmp_path / "s", tmp_path / "cache", tmp_path / "log"))
        for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(60)
    assert [b.exitcode for b in builders] == [0, 0]
    assert len((tmp_path / "log").read_text().splitlines()) == len(SIZES)
