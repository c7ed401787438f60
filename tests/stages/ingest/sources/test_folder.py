"""The folder source: layouts, hostile trees, and the promise kept + quarantined = found."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reprise.artifacts.manifest import read_left_out, read_manifest, read_quarantine
from reprise.config.errors import SourceError
from reprise.storage.walk import list_entries
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, Refused
from stages.ingest.sources.folder import Folder
from tests.stages.ingest import hostile

RULES = Path(__file__).parents[4] / "docs/reference/data-rules.md"
LIMITS = SourceParams(name="folder", max_pixels=1_000_000, min_side=4)


def folder(root: Path, **options: object) -> Folder:
    return Folder(root, Folder.Params(**options))


def take_in(
    root: Path, output: Path, params: SourceParams = LIMITS, workers: int = 0, **options: object
) -> tuple[pa.Table, pa.Table, dict]:
    """Run ingest on a folder in this process; manifest, quarantine and card."""
    options.setdefault("labels", "folders" if options.get("layout") == "splits" else "auto")
    output.mkdir(exist_ok=True)
    card = ingest(folder(root, **options), params, output, workers)
    return read_manifest(output / "manifest.parquet"), read_quarantine(output / "quarantine.parquet"), card


def place(root: Path, names: list[str]) -> Path:
    """An image of its own at every name."""
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hostile.encoded(hostile.photo(seed), "PNG"))
    return root


def found(root: Path, **options: object) -> dict[str, tuple[str | None, str | None]]:
    """(split, label) of each candidate by name relative to the root."""
    items = folder(root, **options).candidates()
    return {str(Path(i.name).relative_to(root)): (i.split, i.label) for i in items if isinstance(i, Candidate)}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train/cat/1.png", "test/cat/1.png"], [("train", "cat"), ("test", "cat")]),
        (
            ["Train/cat/1.png", "TEST/cat/1.png", "Validation/cat/2.png"],
            [("train", "cat"), ("test", "cat"), ("val", "cat")],
        ),
        (["train/cat/1.png", "valid/dog/1.png"], [("train", "cat"), ("val", "dog")]),
        (["cat/1.png", "dog/1.png"], [(None, "cat"), (None, "dog")]),
        (["1.png", "2.png"], [(None, None), (None, None)]),
        (["train/1.png", "test/2.png"], [("train", None), ("test", None)]),
    ],
)
def test_layouts_are_recognised(
    tmp_path: Path, names: list[str], expected: list[tuple[str | None, str | None]]
) -> None:
    place(tmp_path, names)
    assert found(tmp_path) == dict(zip(names, expected, strict=True))


def test_folders_that_are_half_splits_need_a_word_from_the_user(tmp_path: Path) -> None:
    place(tmp_path, ["train/a/1.png", "test/a/2.png", "extra/3.png"])
    with pytest.raises(SourceError, match=r"extra.*source\.options\.layout"):
        list(folder(tmp_path).candidates())
    kept = found(tmp_path, layout="splits")
    assert set(kept) == {"train/a/1.png", "test/a/2.png"}
    left = [i for i in folder(tmp_path, layout="splits").candidates() if isinstance(i, Refused)]
    assert [(i.name, i.reason) for i in left] == [(str(tmp_path / "extra/3.png"), "outside_splits")]
    assert {label for _, label in found(tmp_path, layout="classes").values()} == {"train", "test", "extra"}


def test_a_flat_layout_has_no_labels_whatever_the_folders(tmp_path: Path) -> None:
    place(tmp_path, ["2021/01/1.png", "2022/2.png"])
    assert set(found(tmp_path, layout="flat").values()) == {(None, None)}


def test_groups_are_the_folders_below_the_class(tmp_path: Path) -> None:
    place(tmp_path, ["cat/video1/1.png", "cat/video1/2.png", "dog/video1/3.png", "dog/4.png"])
    groups = {i.group for i in folder(tmp_path, group="folder").candidates() if isinstance(i, Candidate)}
    assert groups == {"video1", None}  # the class is no part of the name: video1 shows both a cat and a dog


def test_every_hostile_file_ends_where_the_rules_say(tmp_path: Path) -> None:
    root = tmp_path / "root"
    expected = hostile.build(root)
    manifest, quarantine, card = take_in(root, tmp_path / "out")
    kept = {str(Path(p).relative_to(root)) for p in manifest["path"].to_pylist()}
    left_out = read_left_out(tmp_path / "out" / "left_out.parquet")
    gone = {
        row["path"].removeprefix(f"{root}/"): row["reason"] for row in (*quarantine.to_pylist(), *left_out.to_pylist())
    }
    seen = dict.fromkeys(kept) | gone
    # of equal copies the first by name stays
    expected["things/whole.jpg"], expected["things/link_inside.png"] = "duplicate", None
    expected["things/whole.png"], expected["things/copy of whole.png"] = "duplicate", None
    assert seen == expected
    assert card["left_out"] == {"hidden": 2, "other_file": 1}
    assert card["found"] == card["kept"] + card["quarantined"] == len(expected) - 3
    assert not (tmp_path / "pwned").exists()


def test_the_hostile_tree_gives_the_same_tables_in_worker_processes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    hostile.build(root)
    alone, workers = take_in(root, tmp_path / "a", workers=0), take_in(root, tmp_path / "b", workers=2)
    assert alone[0].equals(workers[0])
    assert alone[1].equals(workers[1])
    for name in ("manifest.parquet", "quarantine.parquet", "dataset.json", "views.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_images_of_a_folder_are_not_copied_and_paths_keep_the_root_as_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place(Path("pictures"), [f"{i}.png" for i in range(5)])
    manifest, _, _ = take_in(Path("pictures"), tmp_path / "out")
    assert sorted(manifest["path"].to_pylist()) == [f"pictures/{i}.png" for i in range(5)]
    assert not (tmp_path / "out" / "images.tar").exists()


def test_unlabelled_images_have_null_labels_and_no_classes(tmp_path: Path) -> None:
    place(tmp_path / "root", [f"{i}.png" for i in range(5)])
    manifest, _, card = take_in(tmp_path / "root", tmp_path / "out")
    assert manifest["label"].null_count == 5
    assert card["classes"] == []


def test_classes_that_differ_in_case_only_stay_apart_with_a_note(tmp_path: Path) -> None:
    place(tmp_path / "root", ["Cat/1.png", "cat/2.png"])
    _, _, card = take_in(tmp_path / "root", tmp_path / "out")
    assert card["classes"] == ["Cat", "cat"]
    assert "upper and lower case" in card["notes"][0]


def test_an_unlistable_folder_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path, ["a/1.png", "b/2.png"])
    scandir = os.scandir

    def denied(path: bytes) -> object:
        if os.fsencode(path).endswith(b"/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert [(e.text, e.reason) for e in list_entries(tmp_path)] == [("a/1.png", None), ("b", "unreadable")]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "the root of the source is missing"),
        (lambda root: root.mkdir(), "the source holds no images"),
        (lambda root: root.write_bytes(b"x"), "is not a folder"),
        (lambda root: place(root, ["one.png"]), "training needs more than one image"),
        (lambda root: (root.mkdir(), (root / "x.jpg").write_bytes(b"")), "no image of the source can be used"),
    ],
)
def test_a_useless_root_is_a_sentence_that_says_what_to_do(tmp_path: Path, make: object, message: str) -> None:
    root = tmp_path / "root"
    make(root)
    with pytest.raises(SourceError, match=message) as caught:
        take_in(root, tmp_path / "out")
    assert "source.root" in caught.value.fix or "data-rules" in caught.value.fix


@pytest.mark.parametrize("root", [".", "data", "data/ingest", "..", "/", "link"])
def test_a_root_that_holds_the_artifacts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    project = tmp_path / "project"
    (project / "data/images/cat").mkdir(parents=True)
    (project / "data/images/cat/1.png").write_bytes(hostile.PNG)
    (project / "link").symlink_to(project)
    monkeypatch.chdir(project)
    source = folder(Path(root))
    with pytest.raises(SourceError, match="holds what the graph itself writes"):
        list(source.candidates())
    with pytest.raises(SourceError, match="data/images"):
        source.extent()
    assert folder(Path("data/images")).extent().files == 1


def test_a_root_that_cannot_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: bytes) -> object:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(SourceError, match=r"cannot be read.*Permission denied"):
        list(folder(tmp_path).candidates())


def test_the_extent_follows_names_and_contents_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = place(tmp_path / "root", ["a/1.png", "b/2.png"])
    first = folder(root).extent()
    assert first.files == 2
    os.utime(root / "a" / "1.png", (1, 1))
    assert folder(root).extent() == first
    (root / "a" / "1.png").rename(root / "a" / "3.png")
    assert folder(root).extent().digest != first.digest
    (root / "a" / "3.png").rename(root / "a" / "1.png")
    assert folder(root).extent() == first
    os.mkfifo(root / "pipe")
    assert folder(root).extent().digest != first.digest


def test_unchanged_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = place(tmp_path / "root", ["a/1.png", "b/2.png"])
    monkeypatch.setattr("reprise.storage.listing._RACY_NS", -1)
    first = folder(root).extent()

    def forbidden(path: object) -> object:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr("reprise.storage.listing.sha256_of", forbidden)
    assert folder(root).extent() == first


def test_a_damaged_cache_of_the_listing_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprise.storage.listing._RACY_NS", -1)
    monkeypatch.chdir(tmp_path)
    root = place(tmp_path / "root", ["a/1.png"])
    first = folder(root).extent()
    for store in Path(".reprise/listing").iterdir():
        store.write_text("{ not json")
    assert folder(root).extent() == first


CONTENT = st.sampled_from(
    [
        b"text",
        hostile.bomb(),
        *(data for data, _ in hostile.FILES.values()),
        *(hostile.encoded(hostile.photo(s, 6, 6), "PNG") for s in range(4)),
    ]
)
ODD = {
    "link": lambda path, root: path.symlink_to(root / "train"),
    "relative": lambda path, root: path.symlink_to("../cat"),
    "outside": lambda path, root: path.symlink_to("/dev/zero"),
    "loop": lambda path, root: path.symlink_to(path),
    "fifo": lambda path, root: os.mkfifo(path),
    "empty folder": lambda path, root: path.mkdir(),
}
PART = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda t: t not in (".", "..") and len(t.encode()) < 100
)
RAW = st.binary(min_size=1, max_size=8).filter(lambda b: not {b"/", b"\0"} & {b[i : i + 1] for i in range(len(b))})
BYTES = RAW.filter(lambda b: b not in (b".", b"..")).map(os.fsdecode)
NAME = st.sampled_from(["train", "test", "val", "cat", "Cat", "1.png", "2.jpg"]) | st.integers(0, 15).flatmap(
    lambda n: PART if n else BYTES
)
TREES = st.dictionaries(
    st.lists(NAME, min_size=1, max_size=4).map(tuple), CONTENT | CONTENT | st.sampled_from(sorted(ODD)), max_size=12
)
QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


def plant(root: Path, tree: dict[tuple[str, ...], bytes | str]) -> int:
    """Make what `tree` says, and count the entries that ingest must account for.

    An empty folder holds none, unless it is hidden: a hidden folder is an entry of its own.
    """
    made = len(list(place(root, ["train/cat/first.png", "train/dog/second.png"]).rglob("*.png")))  # usable images
    for parts, content in tree.items():
        path = root.joinpath(*parts)
        if any(parent.is_symlink() for parent in path.parents if parent != root):
            continue  # it would be made elsewhere
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                ODD[content](path, root)
            else:
                with path.open("xb") as file:  # never into a FIFO that is there
                    file.write(content)
        except OSError:  # two entries of the tree want the same place
            continue
        made += content != "empty folder" or any(part.startswith(".") for part in parts)
    return made


def outcome(root: Path, output: Path, layout: str) -> tuple[list[tuple[str, ...]], dict] | None:
    """(name below the root, reason or "kept", detail or split) of each entry in the order written, and the card."""
    try:
        manifest, quarantine, card = take_in(root, output, layout=layout)
    except SourceError as error:
        assert "source.root" in error.fix or "data-rules" in error.fix or "source.options" in error.fix  # noqa: PT017
        return None
    rows = [(row["path"], "kept", f"{row['split']} {row['label']}") for row in manifest.to_pylist()]
    left_out = read_left_out(output / "left_out.parquet")
    rows += [(row["path"], row["reason"], row["detail"]) for row in (*quarantine.to_pylist(), *left_out.to_pylist())]
    assert card["refused"] == dict(Counter(quarantine["reason"].to_pylist()))
    assert card["left_out"] == dict(Counter(left_out["reason"].to_pylist()))
    assert manifest["sha256"].to_pylist() == sorted(set(manifest["sha256"].to_pylist()))
    return [tuple(str(v).replace(str(root), "ROOT") for v in row) for row in rows], card


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(tree=TREES, layout=st.sampled_from(["splits", "classes", "flat"]))
def test_kept_and_quarantined_are_all_that_was_found(
    tmp_path_factory: pytest.TempPathFactory, tree: dict, layout: str
) -> None:
    root = tmp_path_factory.mktemp("tree")
    made = plant(root, tree)
    hidden = sum(1 for entry in list_entries(root) if entry.reason == "hidden")
    found = outcome(root, tmp_path_factory.mktemp("out"), layout)
    if found is None:
        return
    rows, card = found
    assert card["found"] == card["kept"] + card["quarantined"]
    entries = card["found"] + sum(card["left_out"].values())
    assert len(rows) == entries <= made
    if not hidden:
        assert entries == made
    assert len({name for name, _, _ in rows}) == len(rows)
    reasons = set(re.findall(r"\| `([a-z0-9_]+)` \|$", RULES.read_text(encoding="utf-8"), re.MULTILINE))
    assert {reason for _, reason, _ in rows} <= reasons | {"kept"}
    assert json.dumps(card)


@settings(max_examples=20, deadline=None, suppress_health_check=QUIET)
@given(tree=TREES, layout=st.sampled_from(["splits", "classes", "flat"]), order=st.randoms(use_true_random=False))
def test_the_order_in_which_files_were_made_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, tree: dict, layout: str, order: Random
) -> None:
    """File systems list a folder in any order; the tables have one. Entries that want one place are left out."""
    alone = {
        parts: kind for parts, kind in tree.items() if not any(o != parts and o[: len(parts)] == parts for o in tree)
    }
    root, other = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("tree")
    plant(root, alone)
    shuffled = list(alone.items())
    order.shuffle(shuffled)
    plant(other, dict(shuffled))
    assert outcome(root, tmp_path_factory.mktemp("out"), layout) == outcome(
        other, tmp_path_factory.mktemp("out"), layout
    )
