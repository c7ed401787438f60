"""Duplicates and splits: pure functions on rows."""

from __future__ import annotations

import hashlib
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.candidates.select import Image, assign_splits, resolve_duplicates
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


def splits(images: list[Image], val: float = 0.1, test: float = 0.2) -> dict[str, str | None]:
    return {i.key: i.candidate.split for i in assign_splits(images, val, test)}


def test_slices_have_about_their_shares_and_depend_on_content_only() -> None:
    images = [image(f"{n}", f"content {n}") for n in range(5000)]
    first = splits(images)
    counts = {s: list(first.values()).count(s) for s in ("train", "val", "test")}
    assert abs(counts["test"] - 1000) < 120  # four standard deviations
    assert abs(counts["val"] - 400) < 80
    renamed = [image(f"other {n}", f"content {n}") for n in reversed(range(5000))]
    assert splits(renamed) == first


def test_adding_images_moves_none_of_the_others() -> None:
    few = splits([image(f"{n}", f"content {n}") for n in range(300)])
    many = splits([image(f"{n}", f"content {n}") for n in range(900)])
    assert few.items() <= many.items()


def test_slices_that_the_source_brings_are_left_alone() -> None:
    rows = [image(f"{n}", f"content {n}", ("train", "val", "test")[n % 3]) for n in range(300)]
    assert splits(rows) == {i.key: i.candidate.split for i in rows}
    no_test = [image(f"{n}", f"content {n}", ("train", "val")[n % 2]) for n in range(300)]
    moved = splits(no_test)
    assert all(moved[i.key] == "val" for i in no_test if i.candidate.split == "val")
    assert "test" in moved.values()


def test_groups_are_not_torn_apart() -> None:
    moved = assign_splits([image(f"{n}", f"content {n}", group=f"video {n % 40}") for n in range(400)], 0.2, 0.2)
    homes: dict[str | None, set[str | None]] = {}
    for row in moved:
        homes.setdefault(row.candidate.group, set()).add(row.candidate.split)
    assert all(len(h) == 1 for h in homes.values())
    assert {s for h in homes.values() for s in h} == {"train", "val", "test"}


def test_a_slice_of_a_few_images_is_not_empty_and_not_everything() -> None:
    assert sorted(splits([image(f"{n}", f"{n}") for n in range(3)], 0.01, 0.01).values()) == ["test", "train", "val"]
    assert list(splits([image("a", "a")]).values()) == ["train"]


def test_no_fraction_is_no_slice() -> None:
    assert set(splits([image(f"{n}", f"{n}") for n in range(50)], 0.0, 0.0).values()) == {"train"}
