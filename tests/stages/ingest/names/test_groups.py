"""Groups stay whole: by folder, by a regular expression, by a table; in two given splits they stop ingest."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from reprise.artifacts.manifest import read_manifest
from reprise.config.errors import SourceError
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder
from tests.stages.ingest.hostile import encoded, photo


def place(root: Path, names: list[str]) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(photo(seed, 6, 6), "PNG"))
    return root


def homes(
    root: Path, output: Path, person: str, **options: object
) -> tuple[dict[str, set[str]], list[str | None], dict]:
    """The splits of each person (the part of the path that `person` finds), the groups, and the card."""
    output.mkdir()
    card = ingest(Folder(root, Folder.Params(**options)), SourceParams(name="folder"), output, 0)
    found: dict[str, set[str]] = defaultdict(set)
    rows = read_manifest(output / "manifest.parquet").to_pylist()
    for row in rows:
        found[re.search(person, row["path"])[0]].add(row["split"])
    return found, [row["group"] for row in rows], card


PATIENTS = [f"{c}/patient{p:02d}/{i}.png" for p in range(30) for c in ("benign", "malignant") for i in range(2)]
BY_CLASS = [f"{c}/p{p:02d}_{i}.png" for p in range(30) for c in ("benign", "malignant") for i in range(2)]


def test_a_patient_of_two_classes_is_one_group_by_folder(tmp_path: Path) -> None:
    found, groups, card = homes(place(tmp_path / "root", PATIENTS), tmp_path / "out", r"patient\d+", group="folder")
    assert {len(splits) for splits in found.values()} == {1}
    assert set.union(*found.values()) == {"train", "val", "test"}
    assert set(groups) == set(found)
    assert card["classes"] == ["benign", "malignant"]
    assert "Groups: 30 (folder 1 below the class), of 4 to 4 files." in card["understood"]


def test_a_level_names_the_folder_that_is_the_group(tmp_path: Path) -> None:
    names = [f"{c}/site{s}/person{p}/{i}.png" for p in range(12) for s in (1, 2) for c in "ab" for i in range(2)]
    options = {"group": "folder", "labels": "folders"}
    root = place(tmp_path / "root", names)
    found, groups, _ = homes(root, tmp_path / "one", r"person\d+", **options, group_level=2)
    assert {len(splits) for splits in found.values()} == {1}
    assert set(groups) == {f"person{p}" for p in range(12)}
    _, groups, _ = homes(root, tmp_path / "two", r"site\d", **options)
    assert set(groups) == {"site1", "site2"}


def test_a_regular_expression_finds_the_group_in_names(tmp_path: Path) -> None:
    root = place(tmp_path / "root", [*BY_CLASS, "benign/loose.png"])
    options = {"group": "pattern", "group_pattern": r"(?P<group>p\d+)_"}
    found, groups, card = homes(root, tmp_path / "out", r"p\d\d_|loose", **options)
    assert {len(splits) for splits in found.values()} == {1}
    assert groups.count(None) == 1
    assert any("1 files have none" in sentence for sentence in card["understood"])
    _, groups, _ = homes(root, tmp_path / "first", "benign|malignant", group="pattern", group_pattern=r"/(p)(\d+)")
    assert set(groups) == {"p", None}
    _, groups, _ = homes(root, tmp_path / "whole", "benign|malignant", group="pattern", group_pattern=r"p\d")
    assert set(groups) == {"p0", "p1", "p2", None}


def test_a_column_of_a_table_names_the_group_however_the_names_are_written(tmp_path: Path) -> None:
    root = place(tmp_path / "root", BY_CLASS)
    lines = []
    for n, name in enumerate(BY_CLASS):
        written = (f"./{name}", name.replace("/", "\\"), str(root / name), f"root/{name}")[n % 4]
        lines.append(f"{written},x,{name.split('/')[1][:3]}")
    table = tmp_path / "patients.csv"
    table.write_text("\ufefffile,age,patient\n" + "\n".join(lines) + "\n\nmissing.png,x,p99\n", encoding="utf-8")
    options = {"group": "table", "group_table": str(table), "group_image": "file", "group_column": "patient"}
    found, groups, _ = homes(root, tmp_path / "out", r"p\d\d", **options)
    assert {len(splits) for splits in found.values()} == {1}
    assert set(groups) == {f"p{p:02d}" for p in range(30)}


def test_the_table_is_part_of_the_sources_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root, table = place(tmp_path / "root", ["a/1.png", "b/2.png"]), tmp_path / "groups.csv"
    table.write_text("image,group\na/1.png,one\nb/2.png,two\n")
    source = Folder(root, Folder.Params(group="table", group_table="groups.csv"))
    first = source.extent()
    assert source.extent() == first
    assert first.digest != Folder(root, Folder.Params()).extent().digest
    table.write_text("image,group\na/1.png,one\nb/2.png,one\n")
    assert source.extent().digest != first.digest
    table.unlink()
    with pytest.raises(SourceError, match=r"table of groups.*source\.options\.group_table"):
        source.extent()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must have one column 'image'"),
        ("image;group\na/1.png;one\n", "must have one column 'image'"),
        ("image,patient\na/1.png,one\n", r"one column 'group'.*source\.options\.group_column"),
        ("image,group\na/1.png\n", "line 2 must have 2 fields"),
        ("image,group\n1.png,one\n", "the end of several paths"),
        ("image,group\na/1.png,one\n./a/1.png,two\n", "belongs to one group.*'one' and 'two'"),
        ("image,group\nz.png,one\n", "no image has a group"),
        ("image,group\na/1.png,\n", "no image has a group"),
        ('image,group\n"a/1.png,one\n', "cannot be read"),
    ],
)
def test_what_is_wrong_with_the_table_is_said(tmp_path: Path, text: str, words: str) -> None:
    root, table = place(tmp_path / "root", ["a/1.png", "b/1.png"]), tmp_path / "groups.csv"
    table.write_text(text)
    with pytest.raises(SourceError, match=words):
        list(Folder(root, Folder.Params(group="table", group_table=str(table))).candidates())


def test_a_rule_that_groups_nothing_stops(tmp_path: Path) -> None:
    root = place(tmp_path / "root", ["anna/1.png", "bert/2.png"])
    with pytest.raises(SourceError, match=r"no image has a group.*source\.options\.labels to `none`"):
        list(Folder(root, Folder.Params(group="folder")).candidates())
    groups = [i.group for i in Folder(root, Folder.Params(group="folder", labels="none")).candidates()]
    assert groups == ["anna", "bert"]
    with pytest.raises(SourceError, match=r"source\.options\.group_pattern"):
        list(Folder(root, Folder.Params(group="pattern", group_pattern="patient(.)")).candidates())


@pytest.mark.parametrize(
    "options",
    [
        {"group": "folder", "labels": "folders"},
        {"group": "folder"},
        {"group": "pattern", "group_pattern": r"person\d+", "labels": "none"},
    ],
)
def test_a_group_in_two_given_splits_stops_with_its_name_and_counts(tmp_path: Path, options: dict) -> None:
    names = [
        f"{s}/{c}/person{p}/{i}.png"
        for s, people in (("train", (1, 2)), ("dev", (2, 3)))
        for p in people
        for c in "ab"
        for i in range(2)
    ]
    with pytest.raises(SourceError, match=r"1 of 3 groups: person2 \(4 in train, 4 in val\)") as caught:
        homes(place(tmp_path / "root", names), tmp_path / "out", r"person\d", **options)
    assert "source.options.group" in caught.value.fix


def test_groups_stay_whole_where_only_the_test_split_is_given(tmp_path: Path) -> None:
    names = [f"train/{c}/p{p}/{i}.png" for p in range(20) for c in "ab" for i in range(2)]
    names += [f"test/{c}/q{p}/{i}.png" for p in range(3) for c in "ab" for i in range(2)]
    found, _, card = homes(place(tmp_path / "root", names), tmp_path / "out", r"/[pq]\d+/", group="folder")
    assert {len(splits) for splits in found.values()} == {1}
    assert card["counts"]["test"] == 12
    assert card["counts"]["val"] > 0
