"""Columns in few bytes a row: what they give is what lists and dictionaries of Python give."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.artifacts.tables import columns
from reprise.artifacts.tables.columns import Numbering, Texts, in_blocks, narrow, places, shared_objects

words = st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=40)


def parts_of(values: list, cuts: list[int]) -> pa.ChunkedArray:
    """The values as a column in parts, some of which may be empty."""
    ends = sorted(cut % (len(values) + 1) for cut in cuts)
    bounds = zip([0, *ends], [*ends, len(values)], strict=True)
    return pa.chunked_array([pa.array(values[a:b], pa.string()) for a, b in bounds], pa.string())


@given(words, st.lists(st.integers(0, 99), max_size=4), st.data())
@settings(max_examples=60, deadline=None)
def test_texts_are_read_like_an_array_of_objects(values: list[str], cuts: list[int], data: st.DataObject) -> None:
    texts, objects = Texts(parts_of(values, cuts)), np.array([*values, None], object)[:-1]
    n = len(values)
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=20) if n else st.just([])), np.int64)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    start, stop = data.draw(st.integers(-3, n)), data.draw(st.integers(-3, n + 3))
    assert len(texts) == n
    assert list(texts) == texts.tolist() == np.asarray(texts).tolist() == values
    assert [texts[i] for i in range(n)] == [texts[np.int64(i)] for i in range(n)] == values
    for chosen in (rows, mask, slice(start, stop), slice(None, None, -2), np.arange(n)[n // 2 :]):
        assert texts[chosen].tolist() == objects[chosen].tolist()


def test_a_row_that_is_not_there_is_an_error() -> None:
    texts = Texts(pa.chunked_array([["a", "b"]]))
    assert texts[-1] == "b"
    for row in (2, -3):
        with pytest.raises(IndexError):
            texts[row]
    for rows in ([1, 2], [2], [-1], [0, 7]):  # of some, no slice may leave them out
        with pytest.raises(IndexError):
            texts[np.array(rows)]


def test_a_part_without_rows_does_not_make_large_numbers_inexact() -> None:
    large = np.array([1 << 33, (1 << 62) + 1], np.int64)
    found = columns.joined([narrow(part) for part in (large[:0], large)], np.int64)
    assert (found.dtype, found.tolist()) == (np.uint64, large.tolist())


@given(words, words, st.lists(st.integers(0, 99), max_size=3), st.sampled_from([1, 10, 1 << 30]))
@settings(max_examples=60, deadline=None)
def test_places_are_those_of_a_dictionary(wanted: list[str], known: list[str], cuts: list[int], size: int) -> None:
    known = list(dict.fromkeys(known))
    expected = [{key: row for row, key in enumerate(known)}.get(key, -1) for key in wanted]
    before, columns._BLOCK_BYTES = columns._BLOCK_BYTES, size
    try:
        found = places(Texts(parts_of(wanted, cuts)), Texts(parts_of(known, cuts)))
    finally:
        columns._BLOCK_BYTES = before
    assert found.dtype == np.int64
    assert found.tolist() == expected
    assert places(np.array(wanted, object), np.array(known, object)).tolist() == expected
    assert places(Texts(parts_of(known, cuts)), np.array(known, object)).tolist() == list(range(len(known)))


@given(st.lists(st.none() | st.sampled_from(["train", "ü", "", "test"]), max_size=30), st.lists(st.integers(0, 99)))
@settings(max_examples=100, deadline=None)
def test_shared_objects_and_numbers_stand_for_the_strings(values: list[str | None], cuts: list[int]) -> None:
    column = parts_of(values, cuts)
    found = shared_objects(column)
    assert found.dtype == object
    assert found.tolist() == values
    named, numbering = [value for value in values if value is not None], Numbering()
    for chunk in parts_of(named, cuts).chunks:
        numbering.add(pa.chunked_array([chunk]))
    numbers, names = numbering.sorted()
    assert names == sorted(set(named))
    assert [names[number] for number in numbers.tolist()] == named


def test_numbers_take_the_smallest_type_that_holds_them() -> None:
    for most, dtype in ((0, "u1"), (255, "u1"), (256, "u2"), (1 << 16, "u4"), ((1 << 32) - 1, "u4"), (1 << 32, "u8")):
        values = narrow(np.array([0, most]))
        assert (values.dtype, values.tolist()) == (np.dtype(dtype), [0, most])
    assert narrow(np.zeros(0, np.int64)).tolist() == []


def test_blocks_hold_a_copy_outside_of_the_pool_that_keeps_memory() -> None:
    parts = [pa.array([f"{i:024x}" for i in range(start, start + 1000)]) for start in range(0, 4000, 1000)]
    for some in (parts, parts[:1]):  # a part alone is copied, too
        default, system = pa.default_memory_pool().bytes_allocated(), pa.system_memory_pool().bytes_allocated()
        blocks = in_blocks(some)
        assert pa.default_memory_pool().bytes_allocated() == default
        assert pa.system_memory_pool().bytes_allocated() >= system + 28 * 1000 * len(some)
        assert pa.chunked_array(blocks).to_pylist() == pa.chunked_array(some).to_pylist()
        del blocks
    assert in_blocks([]) == []
