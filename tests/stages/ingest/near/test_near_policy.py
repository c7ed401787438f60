"""What becomes of near-copies: in the splits that ingest makes, in those that the source gives, and in the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reprise.artifacts.manifest import read_manifest, read_quarantine
from reprise.artifacts.near_copies import APART, NOTHING, REFUSED, TOGETHER, read_near_copies
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate
from stages.ingest.sources.folder import Folder
from tests.stages.ingest.hostile import encoded
from tests.stages.ingest.photographs import FOUND, photograph

COPY, OTHER_COPY, THIRD = (FOUND[name] for name in ("JPEG, quality 70", "a pixel to the right", "grey"))
PHOTOGRAPHS = [photograph(seed, 32, 32) for seed in range(24)]


class Listed(Folder):
    """A source that names what it is given."""

    items: tuple[Candidate, ...] = ()

    def candidates(self) -> Iterator[Candidate]:
        yield from self.items


def picture(name: str, pixels: Any, **given: Any) -> Candidate:
    return Candidate(name, encoded(pixels, "PNG"), **given)


def take_in(output: Path, items: list[Candidate], workers: int = 0, **params: Any) -> dict[str, Any]:
    """Take in images; return the card."""
    source = Listed(output / "nowhere", Folder.Params())
    source.items = tuple(items)
    output.mkdir()
    return ingest(source, SourceParams(name="folder", **params), output, workers)


def pairs_in(output: Path) -> list[dict[str, Any]]:
    return read_near_copies(output / "near_copies.parquet").to_pylist()


def with_copies(**given: Any) -> list[Candidate]:
    """Every photograph, and two near-copies of it."""
    changes = {"a": lambda p: p, "b": COPY, "c": OTHER_COPY}
    return [
        picture(f"{i}{kind}", change(p), **given) for i, p in enumerate(PHOTOGRAPHS) for kind, change in changes.items()
    ]


def test_near_copies_go_into_one_split_and_nothing_is_removed(tmp_path: Path) -> None:
    card = take_in(tmp_path / "a", with_copies(), test_fraction=0.3, val_fraction=0.3)
    split = {row["key"]: row["split"] for row in read_manifest(tmp_path / "a/manifest.parquet").to_pylist()}
    pairs = pairs_in(tmp_path / "a")
    assert len(pairs) >= 2 * len(PHOTOGRAPHS)
    assert {row["done"] for row in pairs} == {TOGETHER}
    assert all(split[row["key"]] == row["split"] == row["other_split"] == split[row["other_key"]] for row in pairs)
    assert (card["kept"], card["quarantined"], card["near_copies"]["across_splits"]) == (72, 0, 0)
    assert min(card["counts"].values()) > 0
    assert "No near-copies lie in two splits." in card["near_copies"]["said"]


def test_a_report_changes_no_split_and_says_what_crosses(tmp_path: Path) -> None:
    card = take_in(tmp_path / "a", with_copies(), near_copies="report", test_fraction=0.3, val_fraction=0.3)
    assert card["near_copies"]["across_splits"] > 0
    assert {row["done"] for row in pairs_in(tmp_path / "a")} == {APART, NOTHING}
    assert (card["kept"], card["quarantined"]) == (72, 0)
    assert any("source.near_copies is `report`" in sentence for sentence in card["near_copies"]["said"])


def test_splits_that_the_source_gives_stay_and_crossing_copies_are_stated(tmp_path: Path) -> None:
    given = [picture(f"t{i}", COPY(p), split="test") for i, p in enumerate(PHOTOGRAPHS[:5])]
    train = [picture(f"{i}", p, split="train") for i, p in enumerate(PHOTOGRAPHS)]
    card = take_in(tmp_path / "a", given + train, val_fraction=0)
    assert card["counts"] == {"train": 24, "val": 0, "test": 5}
    assert [row["done"] for row in pairs_in(tmp_path / "a")] == [APART] * 5
    said = " ".join(card["near_copies"]["said"])
    assert "5 pairs of near-copies lie in two splits (test and train 5), as the source gives them" in said
    assert "`source.near_copies: keep_one`" in said


def test_val_is_cut_out_of_a_given_train_without_tearing_copies_apart(tmp_path: Path) -> None:
    test = [picture(f"t{i}", photograph(100 + i, 32, 32), split="test") for i in range(3)]
    take_in(tmp_path / "a", with_copies(split="train") + test, val_fraction=0.4)
    pairs = pairs_in(tmp_path / "a")
    assert {row["split"] for row in pairs} == {"train", "val"}
    assert all(row["split"] == row["other_split"] for row in pairs)


def test_keep_one_keeps_the_image_of_test_and_everything_is_accounted_for(tmp_path: Path) -> None:
    given = [picture(f"t{i}", COPY(p), split="test") for i, p in enumerate(PHOTOGRAPHS[:5])]
    train = [picture(f"{i}", p, split="train") for i, p in enumerate(PHOTOGRAPHS)]
    more = [picture(f"more{i}", THIRD(p), split="train") for i, p in enumerate(PHOTOGRAPHS[4:8])]
    card = take_in(tmp_path / "a", given + train + more, near_copies="keep_one", val_fraction=0)
    assert card["found"] == card["kept"] + card["quarantined"] == 33
    assert card["counts"]["test"] == 5
    refused = {row["path"]: row["reason"] for row in read_quarantine(tmp_path / "a/quarantine.parquet").to_pylist()}
    across, within = "near_duplicate_across_splits", "near_duplicate"
    assert refused == {f"{i}": across for i in range(5)} | {"more0": across} | {f"more{i}": within for i in (1, 2, 3)}
    assert {row["done"] for row in pairs_in(tmp_path / "a")} == {REFUSED}


def test_keep_one_prefers_a_label_then_pixels_then_the_name(tmp_path: Path) -> None:
    large = [photograph(seed, 64, 64) for seed in (1, 2)]
    small = [FOUND["another size"](COPY(p))[:64, :64] for p in large]
    assert all(s.shape[0] == 64 for s in small)
    rows = [
        picture("0 no label", large[0]),
        picture("1 label", THIRD(large[0]), label="x"),
        picture("2 first", PHOTOGRAPHS[3]),
        picture("3 second", COPY(PHOTOGRAPHS[3])),
        picture("4 small", COPY(PHOTOGRAPHS[4])),
        picture("5 large", FOUND["another size"](PHOTOGRAPHS[4])),
    ]
    take_in(tmp_path / "a", rows, near_copies="keep_one")
    refused = {row["path"] for row in read_quarantine(tmp_path / "a/quarantine.parquet").to_pylist()}
    assert refused == {"0 no label", "3 second", "4 small"}


@pytest.mark.parametrize("policy", ["same_split", "keep_one"])
def test_copies_with_different_labels_stay_together_and_are_noted(tmp_path: Path, policy: str) -> None:
    rows = [picture(f"a{i}", p, label="cat") for i, p in enumerate(PHOTOGRAPHS)]
    rows += [picture(f"b{i}", COPY(p), label="dog") for i, p in enumerate(PHOTOGRAPHS)]
    card = take_in(tmp_path / "a", rows, near_copies=policy, test_fraction=0.4)
    pairs = pairs_in(tmp_path / "a")
    assert (card["kept"], len(pairs), card["near_copies"]["labels_differ"]) == (48, 24, 24)
    assert all(row["labels_differ"] and row["split"] == row["other_split"] for row in pairs)
    assert any("In 24 pairs of near-copies, the labels differ" in said for said in card["near_copies"]["said"])


def test_a_copy_joins_two_groups_and_within_a_group_nothing_is_looked_for(tmp_path: Path) -> None:
    rows = [picture(f"{i}", p, group=f"g{i % 12}") for i, p in enumerate(PHOTOGRAPHS)]
    rows += [picture(f"copy{i}", COPY(PHOTOGRAPHS[i]), group=f"g{(i + 1) % 12}") for i in range(0, 12, 2)]
    rows += [picture("frame", OTHER_COPY(PHOTOGRAPHS[1]), group="g1")]
    take_in(tmp_path / "a", rows, test_fraction=0.4, val_fraction=0.3)
    pairs = pairs_in(tmp_path / "a")
    assert len(pairs) == 6
    manifest = read_manifest(tmp_path / "a/manifest.parquet").to_pylist()
    splits: dict[int, set[str]] = {}
    for row in manifest:
        splits.setdefault(int(row["group"][1:]) // 2, set()).add(row["split"])
    assert {len(found) for found in splits.values()} == {1}  # g0 and g1 became one, and so on
    assert len({row["split"] for row in manifest}) == 3


def test_one_chain_of_nearly_all_images_is_not_put_into_one_split(tmp_path: Path) -> None:
    rows = [picture(f"{name}", change(PHOTOGRAPHS[0])) for name, change in FOUND.items()]
    card = take_in(tmp_path / "a", [*rows, picture("other", PHOTOGRAPHS[1])], test_fraction=0.3)
    assert min(card["counts"]["train"], card["counts"]["test"]) > 0
    assert any("linked to each other by near-copies" in said for said in card["near_copies"]["said"])


def test_images_without_copies_keep_the_split_that_their_content_gives_them(tmp_path: Path) -> None:
    alone = [picture(f"{i}", p) for i, p in enumerate(PHOTOGRAPHS)]
    copies = [picture(f"copy{i}", COPY(p)) for i, p in enumerate(PHOTOGRAPHS[:4])]
    splits = []
    for name, items in (("a", alone), ("b", alone + copies)):
        take_in(tmp_path / name, items, test_fraction=0.3)
        rows = read_manifest(tmp_path / name / "manifest.parquet").to_pylist()
        with_copy = {key for row in pairs_in(tmp_path / name) for key in (row["key"], row["other_key"])}
        splits.append({row["key"]: row["split"] for row in rows if row["key"] not in with_copy})
    assert len(splits[1]) == 20
    assert splits[1].items() <= splits[0].items()


def test_neither_order_nor_workers_nor_names_change_what_is_found(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    items = with_copies()
    for item in items:
        (root / f"{item.name}.png").write_bytes(item.reference if isinstance(item.reference, bytes) else b"")
    files = [replace(item, name=f"{item.name}.png", reference=str(root / f"{item.name}.png")) for item in items]
    cards = [take_in(tmp_path / "0", files), take_in(tmp_path / "1", files[::-1], workers=2)]
    assert cards[0] == cards[1]
    for name in ("manifest", "near_copies", "quarantine"):
        assert (tmp_path / f"0/{name}.parquet").read_bytes() == (tmp_path / f"1/{name}.parquet").read_bytes(), name
    take_in(tmp_path / "2", [replace(item, name=f"x{i}") for i, item in enumerate(reversed(items))])
    found = [{(row["key"], row["other_key"], row["distance"]) for row in pairs_in(tmp_path / n)} for n in ("0", "2")]
    assert found[0] == found[1]
    written = {path.name for path in (tmp_path / "0").iterdir()}  # the sketches' file is gone
    tables = {f"{name}.parquet" for name in ("manifest", "quarantine", "left_out", "notes", "near_copies")}
    assert written == tables | {"dataset.json", "views.json"}


def test_thirty_copies_among_three_hundred_photographs_never_cross(tmp_path: Path) -> None:
    """A split by the hash of the content tears a third of such pairs apart."""
    rows = [picture(f"{seed}", photograph(seed, 24, 24)) for seed in range(300)]
    changes = (FOUND["a little brighter"], COPY)
    rows += [picture(f"copy{i}", changes[i % 2](photograph(i, 24, 24))) for i in range(30)]
    card = take_in(tmp_path / "a", rows)
    assert (card["near_copies"]["pairs"], card["near_copies"]["across_splits"]) == (30, 0)
    stored = json.loads((tmp_path / "a/dataset.json").read_text())
    assert stored["near_copies"]["pairs"] == 30
