"""Duplicates: pure functions on rows."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.candidates.select import Image, lost_with_copies, resolve_duplicates
from stages.ingest.source import Candidate

FACTS = {"width": 8, "height": 8, "channels": 1, "format": "PNG", "plain": True}


def image(
    name: str, content: str, split: str | None = None, label: str | None = None, group: str | None = None
) -> Image:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return Image(Candidate(name, name, split, label, group), sha256, 10, FACTS | {"pixels": sha256})


@pytest.mark.parametrize(
    ("copies", "kept", "refused"),
    [
        # one label: the first by name stays
        ([("b", "train", "x"), ("a", "train", "x")], ["a"], {"b": "duplicate"}),
        # labels differ: none can be trusted
        ([("a", "train", "x"), ("b", "train", "y"), ("c", "train", "x")], [], dict.fromkeys("abc", "label_conflict")),
        # across splits: test before val before train
        (
            [("a", "train", "x"), ("b", "test", "x"), ("c", "val", "x")],
            ["b"],
            dict.fromkeys("ac", "duplicate_across_splits"),
        ),
        ([("a", "train", "x"), ("b", "val", "x")], ["b"], {"a": "duplicate_across_splits"}),
        # other labels across splits: test stays
        ([("a", "train", "y"), ("b", "test", "x")], ["b"], {"a": "duplicate_across_splits"}),
        # a conflict inside test leaves the copy in train
        (
            [("a", "train", "x"), ("b", "test", "x"), ("c", "test", "y")],
            ["a"],
            {"b": "label_conflict", "c": "label_conflict"},
        ),
        # a copy with a label is worth more than one without
        ([("a", "train", None), ("b", "train", "x")], ["b"], {"a": "duplicate"}),
        ([("a", None, None), ("b", None, None)], ["a"], {"b": "duplicate"}),
    ],
)
def test_duplicates_by_the_table_in_the_docs(copies: list, kept: list[str], refused: dict[str, str]) -> None:
    for order in permutations(copies):
        stays, goes = resolve_duplicates([image(name, "same", split, label) for name, split, label in order])
        assert [i.candidate.name for i in stays] == kept
        assert {r.name: r.reason for r in goes} == refused


def test_facts_that_go_with_a_copy_are_said() -> None:
    """Rows with the same bytes and other captions: the first stays, and nothing is dropped in silence."""
    rows = [image(name, "same", "train") for name in "abc"]
    facts = [
        {"caption": ["a cat"], "age": 3},
        {"caption": ["a tabby"], "age": 3},
        {"caption": ["a cat"], "mask": print},
    ]
    told = [replace(row, candidate=replace(row.candidate, facts=said)) for row, said in zip(rows, facts, strict=True)]
    kept, refused = resolve_duplicates(told)
    assert [row.candidate.name for row in kept] == ["a"]
    assert [copy.detail for copy in refused] == [
        "the same bytes, but with other facts (caption), as a",
        "the same bytes as a",
    ]
    (line,) = lost_with_copies(refused)
    assert line.startswith("1 refused copy says other facts of an image than the copy that stays")
    assert lost_with_copies(refused[1:]) == []


ROWS = st.lists(
    st.tuples(
        st.sampled_from("abcd"), st.sampled_from([None, "train", "val", "test"]), st.sampled_from([None, "x", "y"])
    ),
    max_size=12,
)


@given(rows=ROWS)
def test_each_content_stays_at_most_once_and_nothing_vanishes(rows: list) -> None:
    images = [image(f"{n:02d}", *row) for n, row in enumerate(rows)]
    kept, refused = resolve_duplicates(images)
    assert len(kept) + len(refused) == len(images)
    assert len({i.sha256 for i in kept}) == len(kept)
    assert {i.candidate.name for i in kept} | {r.name for r in refused} == {i.candidate.name for i in images}
