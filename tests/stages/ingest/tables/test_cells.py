"""Cells of tables: what each kind takes, and that anything else is refused with a clause, never with an exception."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reprise.media.text.rules import problem_of_text, problem_of_word
from stages.ingest.tables import cells
from stages.ingest.tables.cells import BadCell
from stages.ingest.tables.options import ColumnOptions

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(value=ANYTHING)
def test_any_value_is_read_or_refused(value: Any) -> None:
    def tried(read: Any, *more: Any) -> Any:
        try:
            return read(value, *more)
        except BadCell:
            return None

    name = tried(cells.name_of)
    assert name is None or problem_of_word(name) is None
    number = tried(cells.number_of)
    assert number is None or math.isfinite(number)
    assert tried(cells.flag_of) in (None, 0, 1)
    for x0, y0, x1, y1 in tried(cells.boxes_of, "corners") or []:
        assert 0 <= x0 < x1
        assert 0 <= y0 < y1
    assert all(math.isfinite(number) for number in tried(cells.pose_of) or [])
    assert all(problem_of_text(text) is None for text in tried(cells.captions_of) or [])
    assert set(tried(cells.labels_of, ";", {"a": "A"}) or {"a": 0}) == {"a"}


@pytest.mark.parametrize(
    ("value", "name"),
    [("007", "007"), (7, "7"), (3.0, "3"), (Decimal(4), "4"), (True, "true"), ("=1+1", "=1+1"), (" cat", " cat")],
)
def test_names_stay_as_they_are_written(value: Any, name: str) -> None:
    assert cells.name_of(value) == name


@pytest.mark.parametrize("value", [1.5, math.inf, [1], {"a": 1}, b"cat", date(2026, 1, 1), "a\nb", " ", "x" * 201])
def test_what_is_no_name_is_refused(value: Any) -> None:
    with pytest.raises(BadCell):
        cells.name_of(value)


def test_numbers_of_classes_become_their_names() -> None:
    assert [cells.name_of(i, ["cat", "dog"]) for i in (0, 1, -1, None)] == ["cat", "dog", None, None]
    assert [cells.name_of(i, ["cat", "dog"]) for i in ("1", " 0 ", 1.0, "-1")] == ["dog", "cat", "dog", None]
    for wrong in (2, -2, "2", "x", "cat", "1.0", 0.5, True, [0]):
        with pytest.raises(BadCell, match="0 to 1"):
            cells.name_of(wrong, ["cat", "dog"])


def test_boxes_have_two_forms() -> None:
    assert cells.boxes_of([[1, 2, 3, 4]], "corners") == [(1, 2, 3, 4)]
    assert cells.boxes_of("[1, 2, 3, 4]", "size") == [(1, 2, 4, 6)]
    assert cells.boxes_of([], "size") == []
    for wrong in ([[3, 2, 3, 4]], [[-1, 0, 2, 2]], [[1, 2, 3]], "[[1, 2, 3, NaN]]", "[" * 100_000):
        with pytest.raises(BadCell):
            cells.boxes_of(wrong, "corners")


def test_labels_are_flags_and_an_unknown_one_is_refused() -> None:
    known = {"big": "big", "old": "very old"}
    assert cells.labels_of("very old;big", ";", known) == {"big": 1, "old": 1}
    assert cells.labels_of([1], None, known, ["big", "very old"]) == {"big": 0, "old": 1}
    for value, separator in (("new", ";"), (["new"], None), ("big", None), (["big"], ";")):
        with pytest.raises(BadCell):
            cells.labels_of(value, separator, known)


@pytest.mark.parametrize(
    "wrong",
    [
        {"split_names": {"a": "train"}},
        {"labels": {"column": "tags", "names": {"big": "big"}}, "facts": {"big": {"kind": "flag"}}},
        {"facts": {"key": {"kind": "word"}}},
        {"facts": {"Age": {"kind": "number"}}},
        {"facts": {"age": {"kind": "number", "form": "size"}}},
        {"facts": {"age": {"kind": "flow"}}},
    ],
)
def test_options_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ColumnOptions.model_validate(wrong)
