"""Blocks of computed rows: bounded, whole or absent, and the same with and without a cache."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import numpy as np
import pytest

from reprise.reading import blocks
from reprise.reading.blocks import SIZE, Blocks, Bounds

ROWS, SHAPE, PER_BLOCK = 10, (2, 3), 4
TOTAL = ROWS * 6 * 4
AMPLE = Bounds(10 * TOTAL, TOTAL)


def value(rows: np.ndarray) -> np.ndarray:
    return (np.asarray(rows, np.float32)[:, None] * 10 + np.arange(6, dtype=np.float32)).reshape(len(rows), *SHAPE)


class Counted:
    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self.rows += rows.tolist()
        return value(rows)


def opened(folder: Path, bounds: Bounds = AMPLE) -> tuple[Blocks, Counted]:
    compute = Counted()
    return Blocks(folder, ROWS, SHAPE, PER_BLOCK, compute, bounds, "rows"), compute


@pytest.mark.parametrize("bounds", [AMPLE, Bounds(10 * TOTAL, 0), Bounds(TOTAL - 1, TOTAL), Bounds(0, 0)])
def test_rows_come_in_any_order_whether_cached_mapped_or_computed(tmp_path, bounds):
    wanted = np.array([9, 0, 0, 5, 3])
    found, compute = opened(tmp_path / "a", bounds)
    np.testing.assert_array_equal(found.rows(wanted), value(wanted))
    np.testing.assert_array_equal(found.rows(wanted), value(wanted))
    assert len(found.rows(np.array([], np.int64))) == 0
    cached = bounds.max_bytes >= TOTAL
    assert sorted(compute.rows) == (list(range(10)) if cached else sorted([*wanted] * 2))
    assert (tmp_path / "a").exists() == cached


def test_only_the_blocks_that_are_asked_for_are_computed_and_another_process_finds_them(tmp_path):
    first, compute = opened(tmp_path / "a")
    first.rows(np.array([5]))
    assert compute.rows == [4, 5, 6, 7]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["1.npy", SIZE]
    second, compute = opened(tmp_path / "a")
    np.testing.assert_array_equal(second.rows(np.array([7, 8])), value(np.array([7, 8])))
    assert compute.rows == [8, 9]


@pytest.mark.parametrize("damage", ["cut", "shape", "gone"])
def test_a_damaged_block_is_computed_again(tmp_path, damage):
    opened(tmp_path / "a")[0].rows(np.arange(10))
    path = tmp_path / "a" / "0.npy"
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-3])
    elif damage == "shape":
        np.save(path, np.zeros((4, 3, 2), np.float32))
    else:
        path.unlink()
    found, compute = opened(tmp_path / "a")
    np.testing.assert_array_equal(found.rows(np.arange(10)), value(np.arange(10)))
    assert compute.rows == [0, 1, 2, 3]
    assert path.read_bytes() == whole


def test_older_entries_make_room_and_the_folder_keeps_its_bound(tmp_path, capsys):
    bounds = Bounds(2 * TOTAL, 0)
    for number, name in enumerate("abc"):
        opened(tmp_path / name, bounds)[0].rows(np.array([0]))
        blocks.os.utime(tmp_path / name, (number, number))
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["b", "c"]
    opened(tmp_path / "b", bounds)[0].rows(np.array([0]))  # a use, after which `c` is the older one
    opened(tmp_path / "d", bounds)[0].rows(np.array([0]))
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["b", "d"]
    said = capsys.readouterr().err
    assert f"cache: rows, 10 rows, take up to 0.2 KiB of 0.5 KiB in {tmp_path}" in said
    opened(tmp_path / "e", Bounds(TOTAL - 1, 0))[0].rows(np.array([0]))
    assert "would take 0.2 KiB, more than cache.max_bytes (0.2 KiB)" in capsys.readouterr().err


def test_an_entry_that_is_removed_while_it_is_used_is_made_again(tmp_path):
    found, _ = opened(tmp_path / "a", Bounds(10 * TOTAL, 0))
    found.rows(np.array([0]))
    blocks.shutil.rmtree(tmp_path / "a")
    np.testing.assert_array_equal(found.rows(np.arange(10)), value(np.arange(10)))
    assert (tmp_path / "a" / "0.npy").exists()


def test_two_at_once_write_the_same_bytes(tmp_path):
    """Both compute every block before either has written one."""
    barrier = threading.Barrier(2)

    def compute(rows: np.ndarray) -> np.ndarray:
        barrier.wait(10)
        return value(rows)

    def fill() -> None:
        found.append(Blocks(tmp_path / "a", ROWS, SHAPE, PER_BLOCK, compute, AMPLE, "rows").rows(np.arange(PER_BLOCK)))

    found: list[np.ndarray] = []
    threads = [threading.Thread(target=fill) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [np.array_equal(rows, value(np.arange(PER_BLOCK))) for rows in found] == [True, True]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["0.npy", SIZE]


def test_a_full_disk_ends_the_writing_and_not_the_work(tmp_path, monkeypatch, capsys):
    def full(*arguments, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    found, _ = opened(tmp_path / "a")
    monkeypatch.setattr(blocks.tempfile, "mkstemp", full)
    np.testing.assert_array_equal(found.rows(np.arange(10)), value(np.arange(10)))
    assert "the disk is full" in capsys.readouterr().err
