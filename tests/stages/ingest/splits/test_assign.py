"""Splits: every way keeps groups together; the ways by hash keep yesterday's test images out of tomorrow's train."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reprise.artifacts.manifest import read_manifest, read_quarantine
from reprise.config.errors import SourceError
from stages.ingest.candidates.select import Image
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate
from stages.ingest.sources.folder import Folder
from stages.ingest.splits.assign import Assigned, assign_splits
from stages.ingest.splits.params import SplitParams
from tests.stages.ingest import hostile

FACTS = {"width": 8, "height": 8, "channels": 1, "format": "PNG", "plain": True}
WAYS = ("hash", "random", "stratified", "folds", "stratified_folds")


def image(
    name: str, content: str, split: str | None = None, label: str | None = None, group: str | None = None
) -> Image:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return Image(Candidate(name, name, split, label, group), sha256, 10, FACTS | {"pixels": sha256})


def numbered(count: int, classes: int = 1, group_of: int = 0) -> list[Image]:
    return [
        image(
            f"{n}", f"content {n}", label=f"class {n % classes}", group=f"group {n // group_of}" if group_of else None
        )
        for n in range(count)
    ]


def assigned(images: list[Image], val: float = 0.1, test: float = 0.2, **split: object) -> Assigned:
    return assign_splits(images, val, test, split=SplitParams(**split))


def splits(images: list[Image], val: float = 0.1, test: float = 0.2, **split: object) -> dict[str, str | None]:
    return {i.key: i.candidate.split for i in assigned(images, val, test, **split).rows}


@st.composite
def data_sets(draw: st.DrawFn) -> list[Image]:
    """Images of a few classes, some of them in groups."""
    rows = draw(st.lists(st.tuples(st.sampled_from([None, *"abc"]), st.sampled_from([None, *"xyz"])), max_size=40))
    return [image(f"{n:02d}", f"content {n}", label=label, group=group) for n, (label, group) in enumerate(rows)]


@given(images=data_sets(), way=st.sampled_from(WAYS), seed=st.integers(0, 3), order=st.randoms())
def test_every_way_gives_each_image_a_split_keeps_groups_whole_and_ignores_order(
    images: list[Image], way: str, seed: int, order: object
) -> None:
    joined = {i.key: "pair" for i in images[:2] if i.candidate.group is None}  # near-copies of each other

    def run(rows: list[Image]) -> dict[str, str | None]:
        found = assign_splits(rows, 0.2, 0.3, joined, SplitParams(by=way, seed=seed, folds=3))
        assert found.refused == []
        return {i.key: i.candidate.split for i in found.rows}

    try:
        found = run(images)
    except SourceError:  # a fold without images
        return
    homes = defaultdict(set)
    for i in images:
        homes[joined.get(i.key) or i.candidate.group or i.key].add(found[i.key])
    assert all(len(home) == 1 for home in homes.values())
    assert set(found.values()) <= {"train", "val", "test"}
    order.shuffle(images)
    assert run(images) == found


@given(
    images=data_sets(),
    kept=st.sets(st.integers(0, 39)),
    way=st.sampled_from(["hash", "folds"]),
    seed=st.integers(0, 3),
)
def test_yesterdays_test_image_is_never_tomorrows_training_image(
    images: list[Image], kept: set[int], way: str, seed: int
) -> None:
    """And no other image moves either; where no image fell into a split by itself, ingest says that it may change."""
    yesterday = [image for n, image in enumerate(images) if n in kept]
    try:
        before = assigned(yesterday, 0.2, 0.3, by=way, seed=seed, folds=3)
        after = assigned(images, 0.2, 0.3, by=way, seed=seed, folds=3)
    except SourceError:
        return
    moved = [
        (old.candidate.split, new.candidate.split)
        for old in before.rows
        for new in after.rows
        if old.key == new.key and old.candidate.split != new.candidate.split
    ]
    chosen = [any("it may be another one" in sentence for sentence in run.said) for run in (before, after)]
    assert ("test", "train") not in moved or chosen[0]
    assert moved == [] or any(chosen)


def test_a_thousand_images_more_move_none_of_the_first_thousand() -> None:
    for way in ({"by": "hash"}, {"by": "hash", "seed": 7}, {"by": "folds", "fold": 3}):
        few, many = splits(numbered(1000, 5, 3), **way), splits(numbered(2000, 5, 3), **way)
        group = {i.key: i.candidate.group for i in numbered(1000, 5, 3)}
        assert few.items() <= many.items(), way
        assert len({group[key] for key, split in few.items() if split == "test"}) > 40


def test_what_exact_shares_cost_is_said_and_true() -> None:
    for way in ("random", "stratified", "stratified_folds"):
        few, many = assigned(numbered(300, 5), by=way), assigned(numbered(600, 5), by=way)
        after = {i.key: i.candidate.split for i in many.rows}
        assert any(i.candidate.split == "test" and after[i.key] == "train" for i in few.rows), way
        assert any(
            "images that are added may move others" in said and "from test to train" in said for said in few.said
        )
    assert assigned(numbered(300, 5)).said == []  # by hash, and that is the default


def test_slices_have_about_their_shares_and_depend_on_content_only() -> None:
    images = [image(f"{n}", f"content {n}") for n in range(5000)]
    first = splits(images)
    counts = {s: list(first.values()).count(s) for s in ("train", "val", "test")}
    assert abs(counts["test"] - 1000) < 120  # four standard deviations
    assert abs(counts["val"] - 400) < 80
    renamed = [image(f"other {n}", f"content {n}") for n in reversed(range(5000))]
    assert splits(renamed) == first


def test_the_default_is_the_hash_as_it_always_was() -> None:
    """Test positions of SHA-256 by hand: another formula would move every image of every data set."""
    found = splits(numbered(40))
    for i in numbered(40):
        place = int.from_bytes(hashlib.sha256(f"test\0{i.sha256}".encode()).digest()[:6], "big") / 2**48
        assert (found[i.key] == "test") == (place < 0.2)


def test_random_shares_are_exact_and_the_seed_draws_them() -> None:
    first = splits(numbered(1003), by="random")
    assert Counter(first.values()) == {"test": 201, "val": 80, "train": 722}
    assert splits(numbered(1003), by="random", seed=1) != first
    assert splits(numbered(1003), by="hash", seed=1) != splits(numbered(1003))


def test_stratified_splits_have_the_share_of_every_class() -> None:
    images = [image(f"{n}", f"{n}", label="common" if n % 10 else "rare") for n in range(500)]
    images += [image(f"no {n}", f"no {n}") for n in range(100)]  # without a class: a class of its own
    found = splits(images, by="stratified")
    by_class = Counter((i.candidate.label, found[i.key]) for i in images)
    assert [by_class[label, "test"] for label in ("common", "rare", None)] == [90, 10, 20]
    assert [by_class[label, "val"] for label in ("common", "rare", None)] == [36, 4, 8]


def test_rounding_of_many_small_classes_adds_up() -> None:
    images = numbered(7 * 40, 40)  # seven images a class; a fifth of them is 1.4
    found = Counter(splits(images, val=0, by="stratified").values())
    assert found["test"] == 56


def test_classes_with_too_few_images_are_named() -> None:
    images = [*numbered(100, 2), image("a", "a", label="once"), *(image(n, n, label="twice") for n in "bc")]
    found = assigned(images, by="stratified")
    of = defaultdict(Counter)
    for i in found.rows:
        of[i.candidate.label][i.candidate.split] += 1
    assert of["once"] == {"train": 1}
    assert of["twice"] == {"train": 1, "test": 1}
    assert "1 class has too few images or groups to be in test: once 1." in found.said
    assert "2 classes have too few images or groups to be in val: once 1, twice 1." in found.said
    folds = assigned(images, by="stratified_folds")
    assert "2 classes have too few images or groups to be in each of 5 folds: once 1, twice 2." in folds.said


@pytest.mark.parametrize("way", ["folds", "stratified_folds"])
def test_folds_hold_each_image_once_and_leave_val_out_of_the_rest(way: str) -> None:
    images = numbered(600, 3, 2)
    tested = Counter()
    for fold in range(4):
        found = splits(images, by=way, folds=4, fold=fold)
        tested.update(key for key, split in found.items() if split == "test")
        assert 20 < list(found.values()).count("val") < 80
    assert set(tested) == {i.key for i in images}
    assert set(tested.values()) == {1}


def test_stratified_folds_are_of_one_size_in_every_class() -> None:
    images = [image(f"{n}", f"{n}", label="abcc"[n % 4]) for n in range(203)]
    for fold in range(5):
        found = splits(images, by="stratified_folds", fold=fold)
        of = Counter(i.candidate.label for i in images if found[i.key] == "test")
        assert all(abs(of[label] - share) <= 1 for label, share in (("a", 10.2), ("b", 10.2), ("c", 20.2)))
        assert 40 <= sum(of.values()) <= 41


def test_a_fold_is_val_where_the_source_has_a_test_split() -> None:
    images = [*numbered(100), *(image(f"t{n}", f"t{n}", "test") for n in range(10))]
    found = assigned(images, by="folds", fold=1)
    counts = Counter(i.candidate.split for i in found.rows)
    assert counts["test"] == 10
    assert 5 < counts["val"] < 40
    assert "Fold 1 of 0 to 4 is val; the others are train." in found.said


def test_a_fold_without_images_is_an_error() -> None:
    with pytest.raises(SourceError, match=r"fold 7 of 0 to 9 .* stratified_folds"):
        assigned([image("a", "a"), image("b", "b")], by="folds", folds=10, fold=7)


def test_slices_that_the_source_brings_are_left_alone_in_every_way() -> None:
    rows = [image(f"{n}", f"content {n}", ("train", "val", "test")[n % 3]) for n in range(300)]
    for way in ("hash", "random", "stratified", "given"):
        assert splits(rows, by=way) == {i.key: i.candidate.split for i in rows}
    no_test = [image(f"{n}", f"content {n}", ("train", "val")[n % 2]) for n in range(300)]
    moved = splits(no_test)
    assert all(moved[i.key] == "val" for i in no_test if i.candidate.split == "val")
    assert "test" in moved.values()


def test_given_splits_refuse_images_without_one_and_sources_without_any() -> None:
    found = assigned([image("a", "a", "train"), image("b", "b")], by="given")
    assert [(r.name, r.reason) for r in found.refused] == [("b", "no_split")]
    assert [i.candidate.split for i in found.rows] == ["train"]
    with pytest.raises(SourceError, match=r"gives no splits.*source\.split"):
        assigned([image("a", "a")], by="given")


def test_groups_are_not_torn_apart() -> None:
    moved = assign_splits([image(f"{n}", f"content {n}", group=f"video {n % 40}") for n in range(400)], 0.2, 0.2).rows
    homes: dict[str | None, set[str | None]] = {}
    for row in moved:
        homes.setdefault(row.candidate.group, set()).add(row.candidate.split)
    assert all(len(h) == 1 for h in homes.values())
    assert {s for h in homes.values() for s in h} == {"train", "val", "test"}


def test_a_slice_of_a_few_images_is_not_empty_and_not_everything() -> None:
    for way in ("hash", "random", "stratified"):
        found = assigned(numbered(3), 0.01, 0.01, by=way)
        assert sorted(i.candidate.split for i in found.rows) == ["test", "train", "val"]
        assert list(splits([image("a", "a")], by=way).values()) == ["train"]


def test_no_fraction_is_no_slice() -> None:
    for way in ("hash", "random", "stratified"):
        assert set(splits(numbered(50), 0.0, 0.0, by=way).values()) == {"train"}


@pytest.mark.parametrize(
    "wrong",
    [{"by": "folds", "folds": 3, "fold": 3}, {"fold": 1}, {"by": "given", "given": "ignore"}, {"by": "kfold"}],
)
def test_options_that_contradict_each_other_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SplitParams(**wrong)


def pictures(root: Path) -> Path:
    for n in range(12):
        path = root / ("train" if n % 3 else "test") / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hostile.encoded(hostile.photo(n), "PNG"))
    return root


def test_splits_of_the_source_can_be_ignored_and_that_is_said(tmp_path: Path) -> None:
    source = Folder(pictures(tmp_path / "root"), Folder.Params())
    for name, split in (("kept", {}), ("ignored", {"given": "ignore", "by": "random"})):
        (tmp_path / name).mkdir()
        params = SourceParams(name="folder", split=SplitParams(**split))
        card = ingest(source, params, tmp_path / name, 0)
        paths = read_manifest(tmp_path / name / "manifest.parquet").to_pylist()
        agrees = all((Path(row["path"]).parent.name == "test") == (row["split"] == "test") for row in paths)
        assert agrees == (name == "kept")
        said = "The splits that the source gives to 12 files are ignored (source.split.given)."
        assert (said in card["understood"]) == (name == "ignored")


def test_an_image_without_a_given_split_is_in_the_quarantine(tmp_path: Path) -> None:
    class Half(Folder):
        def candidates(self):  # type: ignore[no-untyped-def]
            for n, item in enumerate(super().candidates()):
                yield Candidate(item.name, item.reference, None if n == 0 else item.split)

    (tmp_path / "out").mkdir()
    params = SourceParams(name="folder", split=SplitParams(by="given"))
    ingest(Half(pictures(tmp_path / "root"), Folder.Params()), params, tmp_path / "out", 0)
    refused = read_quarantine(tmp_path / "out" / "quarantine.parquet").to_pylist()
    assert [row["reason"] for row in refused] == ["no_split"]
