"""The decoded cache: same pixels with and without it, damage, concurrency, bounds."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts.shards import Shards
from reprise.config.errors import ImageRefused, ShardError
from reprise.media.image.image import Image
from reprise.media.image.transform import resize_to_square
from reprise.reading.decoded import open_decoded
from tests.small_shards import SIZES, make_shards, seed_of
from tests.stages.ingest.hostile import photo


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
    shards = make_shards(tmp_path / "s", [(16, 16)] * 5)
    cache, one = tmp_path / "cache", 3 * 16 * 16 * 3
    for number, rows in enumerate(([0, 1, 3], [0, 2, 3], [1, 3, 4])):
        open_decoded(shards, np.array(rows), 3, cache=cache, max_bytes=2 * one)
        for entry in cache.glob("[!.]*"):
            os.utime(entry, ns=(number, number)) if entry.stat().st_mtime > 1e6 else None
    assert sum(p.stat().st_size for p in cache.glob("*/pixels.bin")) == 2 * one
    again = open_decoded(shards, np.array([1, 3, 4]), 3, cache=cache, max_bytes=2 * one)
    assert again.cached


def test_threads_do_not_change_the_result(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s", [(8 + s % 5, 9) for s in range(20)])
    rows = np.tile(shards.rows(), 40)
    one = open_decoded(shards, rows, 3, size=70, cache=tmp_path / "a", threads=1)
    four = open_decoded(shards, rows, 3, size=70, cache=tmp_path / "b", threads=4)
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
