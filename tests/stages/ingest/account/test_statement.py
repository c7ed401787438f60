"""What ingest says at its end: how the source was read, and what was left out or refused, with counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reprise.artifacts.manifest import read_left_out, read_manifest, read_quarantine
from reprise.config.errors import SourceError
from reprise.media.image.readers.names import claims_picture
from stages.ingest.__main__ import main
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder
from stages.validate.facts import gather
from tests.stages.ingest.hostile import JPEG, encoded, photo


def place(root: Path, names: list[str]) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(photo(seed, 6, 6), "PNG"))
    return root


def take_in(root: Path, output: Path, **options: object) -> dict:
    output.mkdir()
    return ingest(Folder(root, Folder.Params(**options)), SourceParams(name="folder"), output, 0)


def test_sidecars_and_what_systems_leave_are_no_damage(tmp_path: Path) -> None:
    root = place(tmp_path / "root", [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(10)])
    for i in range(10):
        (root / f"cat/._{i}.png").write_bytes(b"\0\5\26\7")
        (root / f"cat/{i}.xml").write_text("<annotation/>")
        (root / f"dog/{i}.png.json").write_text("{}")
    (root / "dog/Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (root / "README").write_text("Cats and dogs.")
    (root / "labels.csv").write_bytes(b"")
    (root / "dog/bad.jpg").write_text("404 Not Found")
    card = take_in(root, tmp_path / "out")
    assert card["classes"] == ["cat", "dog"]
    assert (card["found"], card["kept"], card["refused"]) == (21, 20, {"not_an_image": 1})
    assert card["left_out"] == {"other_file": 22, "hidden": 10, "system_file": 1}
    assert card["understood"][-2:] == [
        "Refused: 1 not_an_image.",
        (
            "Left out: 22 no images and not named as such (.json 10, .xml 10, .csv 1, no extension 1); 10 hidden; 1 of "
            "the system (Thumbs.db, desktop.ini, __MACOSX and the like)."
        ),
    ]
    tables = [
        read(tmp_path / "out" / f"{name}.parquet")
        for read, name in ((read_manifest, "manifest"), (read_quarantine, "quarantine"))
    ]
    assert gather(*tables).totals["quarantined_share"].iloc[0] == pytest.approx(1 / 21)
    assert read_left_out(tmp_path / "out/left_out.parquet").num_rows == 33


def test_an_image_is_taken_in_whatever_its_name(tmp_path: Path) -> None:
    root = place(tmp_path / "root", ["a/1.txt", "a/2", "a/frame.0001", "b/3.dat", "b/4.bak"])
    card = take_in(root, tmp_path / "out")
    assert (card["kept"], card["left_out"]) == (5, {})


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        *((name, True) for name in ("a.jpg", "A.JPEG", "a.heic", "a.nef", "a.svg", "hash", "frame.0001", "a. (copy)")),
        *((name, False) for name in ("a.txt", "a.jpg.json", "a.xml", "a.mp4", "a.zip", "a.dvc", "LICENSE", "x/README")),
    ],
)
def test_names_claim_to_be_pictures_or_not(name: str, claims: bool) -> None:
    assert claims_picture(name) is claims


def test_copies_are_no_damage_either(tmp_path: Path) -> None:
    root = place(tmp_path / "root", [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(5)])
    for i in range(5):
        (root / f"cat/{i} copy.bmp").write_bytes(encoded(photo(i, 6, 6), "BMP"))
    card = take_in(root, tmp_path / "out")
    assert "Copies refused: 5 duplicate." in card["understood"]
    facts = gather(
        read_manifest(tmp_path / "out/manifest.parquet"), read_quarantine(tmp_path / "out/quarantine.parquet")
    )
    assert facts.totals["quarantined_share"].iloc[0] == 0.0


def test_classes_and_splits_are_said_with_counts(tmp_path: Path) -> None:
    names = [f"training/{c}/{i}.png" for c in ("cat", "dog") for i in range(4)]
    root = place(tmp_path / "root", [*names, "holdout/cat/1.png", "holdout/wolf/2.png"])
    card = take_in(root, tmp_path / "out")
    assert card["class_counts"] == {"cat": 5, "dog": 4, "wolf": 1}
    assert card["understood"] == [
        "Folders at the top are splits: holdout/ is test (2 files), training/ is train (8 files).",
        "The first folder is the class.",
        "By the hash, no image would be val, so one was chosen (or one group); with more images it may be another one.",
        "Classes: 3 (cat 5, dog 4, wolf 1).",
        "1 of 2 classes of test are not in train: wolf.",
        f"Splits: train {card['counts']['train']}, val {card['counts']['val']}, test 2.",
    ]


def test_many_classes_are_counted_not_listed(tmp_path: Path) -> None:
    root = place(tmp_path / "root", [f"class {n:02d} of many/1.png" for n in range(30)])
    card = take_in(root, tmp_path / "out")
    said = next(sentence for sentence in card["understood"] if sentence.startswith("Classes"))
    assert said.startswith("Classes: 30 (class 00 of many 1,")
    assert said.endswith("and 18 more).")
    assert len(card["class_counts"]) == 30


def test_only_links_name_the_link_the_folder_and_the_parameter(tmp_path: Path) -> None:
    """A snapshot of the Hugging Face cache."""
    store, root = tmp_path / "blobs", tmp_path / "snapshots/main"
    place(store, [f"{n:040x}" for n in range(6)])
    for n in range(6):
        path = root / ("cat", "dog")[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(f"../../../blobs/{n:040x}")
    with pytest.raises(SourceError, match="6 outside_root") as caught:
        take_in(root, tmp_path / "out")
    assert "6 links leave the root" in caught.value.fix
    assert str(store) in caught.value.fix
    assert "source.options.link_roots" in caught.value.fix
    card = take_in(root, tmp_path / "followed", link_roots=[str(store)])
    assert (card["kept"], card["classes"]) == (6, ["cat", "dog"])
    paths = read_manifest(tmp_path / "followed/manifest.parquet")["path"].to_pylist()
    assert sorted(paths) == sorted(str(p) for p in root.rglob("*.png"))


def test_the_stage_prints_what_it_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    place(tmp_path / "pictures", ["a\x1b[31m/1.png", "b/2.png"])
    (tmp_path / "pictures/b/._2.png").write_bytes(JPEG)
    Path("params.yaml").write_text(json.dumps({"source": {"name": "folder", "root": "pictures"}}))
    main([])
    printed = capsys.readouterr().out
    assert "ingest: Classes: 2 (a\\x1b[31m 1, b 1).\n" in printed
    assert "ingest: Left out: 1 hidden.\n" in printed
    assert "\x1b" not in printed


def test_blanks_around_the_name_of_a_class_are_said(tmp_path: Path) -> None:
    names = ["cat ", "dog", "Dog", "bird", "\u200bfox"]
    card = take_in(place(tmp_path / "root", [f"{c}/{i}.png" for c in names for i in range(4)]), tmp_path / "out")
    assert card["classes"] == sorted(names)
    assert sorted(card["notes"]) == [
        "Class '\\u200bfox' has spaces or invisible characters at an end of its name, and they are kept.",
        "Class 'cat ' has spaces or invisible characters at an end of its name, and they are kept.",
        "Classes 'Dog', 'dog' differ only in upper and lower case and are kept apart.",
    ]
