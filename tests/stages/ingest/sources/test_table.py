"""The source `table`: columns as they are declared, hostile rows one by one, and what a digest covers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.manifest import read_manifest, read_quarantine
from reprise.config.errors import SourceError
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, Refused
from stages.ingest.source_state import times_of
from stages.ingest.sources.table import Table
from tests.stages.ingest import hostile


def png(seed: int) -> bytes:
    return hostile.encoded(hostile.photo(seed), "PNG")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a.png to d.png."""
    folder = tmp_path / "home"
    folder.mkdir()
    for seed, name in enumerate("abcd"):
        (folder / f"{name}.png").write_bytes(png(seed))
    return folder


def table(root: Path, text: str | bytes | None = None, **options: Any) -> Table:
    """A source that reads `root`, which is written first if there is a text for it."""
    if text is not None:
        root.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Table(root, Table.Params.model_validate(options))


def read(source: Table) -> tuple[dict[str, Candidate], dict[str, str]]:
    """Candidates by the name of their file, and reason of each refused row by its place."""
    items = list(source.candidates())
    assert len({item.name for item in items}) == len(items)
    kept = {os.path.basename(item.name): item for item in items if isinstance(item, Candidate)}
    return kept, {item.name: item.reason for item in items if isinstance(item, Refused)}


FULL = {
    "image": "file",
    "label": "kind",
    "group": "site",
    "split": "part",
    "labels": {"column": "tags", "separator": ";", "names": {"big": "big", "old": "very old"}},
    "facts": {
        "age": {"kind": "number", "column": "Age (years)"},
        "tame": {"kind": "flag"},
        "colour": {"kind": "word"},
        "caption": {"kind": "caption", "use": "given"},
        "pose": {"kind": "pose"},
        "boxes": {"kind": "boxes", "form": "size"},
    },
}


def test_every_column_says_what_the_options_declare(home: Path) -> None:
    source = table(
        home / "t.csv",
        "file,kind,site,part,tags,Age (years),tame,colour,caption,pose,boxes,remark\n"
        'a.png,cat,north,train,big; very old,3.5,1,red,"A cat, asleep","[1, 2]","[[1, 2, 3, 4]]",=1+1\n'
        "b.png,007,south,Validation,,,,,,,,\n",
        **FULL,
    )
    kept, refused = read(source)
    assert refused == {}
    a, b = kept["a.png"], kept["b.png"]
    assert (a.label, a.group, a.split, a.reference) == ("cat", "north", "train", str(home / "a.png"))
    assert a.facts == {
        "big": 1, "old": 1, "age": 3.5, "tame": 1, "colour": "red", "caption": ("A cat, asleep",), "pose": [1, 2],
        "boxes": [(1, 2, 4, 6)],
    }  # fmt: skip
    assert (b.label, b.split, b.facts) == ("007", "val", {})  # texts stay texts; an empty cell is unknown
    assert {fact.name: (fact.kind, fact.use) for fact in source.facts()} == {
        "big": ("flag", "label"), "old": ("flag", "label"), "age": ("number", "label"), "tame": ("flag", "label"),
        "colour": ("word", "label"), "caption": ("caption", "given"), "pose": ("pose", "label"),
        "boxes": ("boxes", "label"),
    }  # fmt: skip
    said = " ".join(source.understood())
    assert "The table has 2 rows. Its columns: file is the image, kind is the class, site is the group" in said
    assert "Columns that are not used: remark." in said


def test_parquet_says_the_same_with_types(home: Path) -> None:
    rows = {
        "file": ["a.png", "b.png", "c.png"],
        "kind": pa.array([3, 0, None], pa.int16()),
        "tags": [["big"], [], None],
        "age": [3.5, None, float("nan")],
        "tame": [True, False, None],
        "caption": [["one", "two"], ["three"], None],
        "objects": [{"corners": [[0.0, 1.0, 2.0, 3.0]]}, {"corners": []}, None],
    }
    pq.write_table(pa.table(rows), home / "t.parquet")
    source = table(
        home / "t.parquet",
        image="file",
        label="kind",
        labels={"column": "tags", "names": {"big": "big"}},
        facts={
            "age": {"kind": "number"},
            "tame": {"kind": "flag"},
            "caption": {"kind": "caption"},
            "boxes": {"kind": "boxes", "column": "objects.corners"},
        },
    )
    kept, refused = read(source)
    assert refused == {}
    assert [kept[f"{n}.png"].label for n in "abc"] == ["3", "0", None]
    assert [kept[f"{n}.png"].facts for n in "abc"] == [
        {"big": 1, "age": 3.5, "tame": 1, "caption": ("one", "two"), "boxes": [(0.0, 1.0, 2.0, 3.0)]},
        {"big": 0, "tame": 0, "caption": ("three",), "boxes": []},
        {},
    ]
    assert "1 cells of the column age hold NaN, and count as unknown." in source.understood()


def test_parquet_may_hold_the_images_themselves(tmp_path: Path) -> None:
    (tmp_path / "far.png").write_bytes(png(2))
    structs = [
        {"bytes": png(0), "path": "x/far.png"},
        {"bytes": png(1), "path": None},
        {"bytes": None, "path": "far.png"},
    ]
    for column, name in ((structs, "struct"), ([png(0), png(1), None], "plain")):
        pq.write_table(pa.table({"image": column, "y": ["a", "b", "c"]}), tmp_path / f"{name}.parquet")
    kept, refused = read(table(tmp_path / "struct.parquet", label="y"))
    assert list(kept) == ["struct.parquet: row 1 (far.png)", "struct.parquet: row 2", "far.png"]
    assert [c.reference.read(1 << 20) for c in list(kept.values())[:2]] == [png(0), png(1)]
    assert refused == {}
    kept, refused = read(table(tmp_path / "plain.parquet", label="y"))
    assert [c.label for c in kept.values()] == ["a", "b"]
    assert refused == {"plain.parquet: row 3": "empty_cell"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("nothing.png,x,1", "missing_file"),
        ("../outside.png,x,1", "outside_root"),
        ("/etc/hostname,x,1", "outside_root"),
        ("out.png,x,1", "outside_root"),  # a link that leaves the folder
        ("loop.png,x,1", "link_loop"),
        ("pipe.png,x,1", "not_a_file"),
        (".,x,1", "not_a_file"),
        ("..,x,1", "outside_root"),
        ("https://example.org/a.png,x,1", "outside_root"),
        ("file:///etc/hostname,x,1", "outside_root"),
        ("a\0.png,x,1", "bad_value"),
        (b"\xff.png,x,1", "not_utf8"),
        (b"c.png,\xe9,1", "not_utf8"),
        (",x,1", "empty_cell"),
        ("c.png,x", "ragged_row"),
        ("c.png,x,1,more", "ragged_row"),
        ("c.png,x,nan", "bad_value"),
        ("c.png,x,inf", "bad_value"),
        ("c.png,x,1e999", "bad_value"),
        ("c.png,x,1_0", "bad_value"),
        ("c.png,x,=1+1", "bad_value"),
        (f"c.png,{'y' * 201},1", "bad_value"),
        ("c.png,\x1b[31mred,1", "bad_value"),
        (f"{'d' * 5000}.png,x,1", "unreadable"),
        ("a.png,x,1", "duplicate_row"),
    ],
)
def test_a_hostile_row_is_refused_and_the_others_are_taken(home: Path, row: str | bytes, reason: str) -> None:
    (home.parent / "outside.png").write_bytes(png(9))
    (home / "out.png").symlink_to("../outside.png")
    (home / "loop.png").symlink_to("loop.png")
    os.mkfifo(home / "pipe.png")
    middle = row if isinstance(row, bytes) else row.encode()
    source = table(
        home / "t.csv",
        b"image,label,age\na.png,x,1\n" + middle + b"\nb.png,x,2\n",
        label="label",
        facts={"age": {"kind": "number"}},
    )
    kept, refused = read(source)
    assert list(kept) == ["a.png", "b.png"]
    assert refused == {"t.csv: line 3": reason}
    before = source.extent()
    assert before.digest == source.extent().digest  # nothing hostile stops the scan either


def test_rows_that_contradict_each_other_are_all_refused(home: Path) -> None:
    source = table(home / "t.csv", "image,label\na.png,x\n./a.png,y\nb.png,x\n", label="label")
    kept, refused = read(source)
    assert list(kept) == ["b.png"]
    assert refused == {"t.csv: line 2": "rows_disagree", "t.csv: line 3": "rows_disagree"}


def test_rows_that_differ_in_their_captions_are_one_image(home: Path) -> None:
    text = "image\tsentence\tlabel\na.png\tone\tx\nb.png\tother\ty\na.png\ttwo\tx\na.png\tone\tx\n"
    source = table(home / "t.tsv", text, label="label", facts={"caption": {"kind": "caption", "column": "sentence"}})
    kept, refused = read(source)
    assert {name: item.facts["caption"] for name, item in kept.items()} == {
        "a.png": ("one", "two"),
        "b.png": ("other",),
    }
    assert refused == {"t.tsv: line 5": "duplicate_row"}
    assert "1 images have several rows with other captions, which belong together." in source.understood()


def test_rows_that_differ_in_a_fact_are_no_captions(home: Path) -> None:
    facts = {"caption": {"kind": "caption"}, "age": {"kind": "number"}}
    source = table(home / "t.csv", "image,caption,age\na.png,one,1\na.png,two,2\nb.png,x,3\n", facts=facts)
    assert read(source)[1] == {"t.csv: line 2": "rows_disagree", "t.csv: line 3": "rows_disagree"}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (b"", {}, "no column 'image'"),
        (b"picture,label\na.png,x\n", {}, r"no column 'image'.*columns picture, label"),
        (b"image,label,label\na.png,x,y\n", {"label": "label"}, "two columns 'label'"),
        (b"image;label\na.png;x\n", {}, r"one column, 'image;label'.*source\.options\.delimiter"),
        ("image,label\na.png,x\n".encode("utf-16"), {}, "UTF-16"),
        (b"\x1f\x8b\x08\x00", {}, "gzip"),
        (b'image,label\n"a.png,x\nb.png,y\n', {}, r"row that begins at line 2"),
        (b'image,label\na.png,"x"y\n', {}, "line 2"),
        (b"im\xffage,label\na.png,x\n", {}, "not UTF-8"),
        (
            b"image,part\na.png,train\nb.png,spring\n",
            {"split": "part"},
            r"'spring' \(1 rows\).*split_names.*spring: val",
        ),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error_with_a_way_out(
    home: Path, text: bytes, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read(table(home / "t.csv", text, **options))


def test_a_table_that_is_no_table_is_an_error(home: Path) -> None:
    with pytest.raises(SourceError, match="there is no table"):
        read(table(home / "none.csv"))
    with pytest.raises(SourceError, match="what kind of table"):
        read(table(home / "t.txt", "image,label\na.png,x\n"))
    assert set(read(table(home / "t.txt", "image,label\na.png,x\n", delimiter=","))[0]) == {"a.png"}
    with pytest.raises(SourceError, match="cannot be read"):
        read(table(home / "t.parquet", b"PAR1 and no more"))
    with pytest.raises(SourceError, match="git lfs pull"):
        read(table(home / "p.parquet", b"version https://git-lfs.github.com/spec/v1\n"))
    pq.write_table(pa.table({"image": [png(i) for i in range(50)]}), home / "q.parquet", row_group_size=10)
    damaged = bytearray((home / "q.parquet").read_bytes())
    damaged[len(damaged) // 2 : -1000] = b"\xff" * (len(damaged[len(damaged) // 2 : -1000]))
    with pytest.raises(SourceError, match=r"cannot be read.*q\.parquet"):
        read(table(home / "q.parquet", bytes(damaged)))


def test_long_cells_are_read_and_only_their_own_rows_refused(home: Path) -> None:
    text = f"image,kind\na.png,{'x' * 200_000}\nb.png,y\n"
    kept, refused = read(table(home / "long.csv", text))
    assert (sorted(kept), refused) == (["a.png", "b.png"], {})
    kept, refused = read(table(home / "long.csv", label="kind"))
    assert (sorted(kept), refused) == (["b.png"], {"long.csv: line 2": "bad_value"})


def test_a_folder_of_parts_is_one_table(home: Path) -> None:
    (home / "1.csv").write_text("image,label\na.png,x\n", encoding="utf-8")
    (home / "2.csv").write_text("label,image\ny,b.png\n", encoding="utf-8-sig")
    assert {name: c.label for name, c in read(table(home, label="label"))[0].items()} == {"a.png": "x", "b.png": "y"}
    (home / "3.csv").write_text("image\nc.png\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"no column 'label'.*3\.csv"):
        read(table(home, label="label"))
    (home / "4.parquet").write_bytes(b"")
    with pytest.raises(SourceError, match="one form"):
        read(table(home))


def test_names_of_parts_say_the_split(home: Path) -> None:
    for name, image in (("train-0", "a"), ("train-1", "b"), ("test", "c"), ("valid", "d")):
        (home / f"{name}.csv").write_text(f"image,part\n{image}.png,train\n", encoding="utf-8")
    source = table(home)
    splits = {name: candidate.split for name, candidate in read(source)[0].items()}
    assert splits == {"a.png": "train", "b.png": "train", "c.png": "test", "d.png": "val"}
    assert source.understood()[0] == "Names of parts of the table say the split: 1 test, 2 train, 1 val."
    assert {c.split for c in read(table(home, split="part"))[0].values()} == {"train"}
    assert read(table(home / "test.csv"))[0]["c.png"].split is None
    (home / "more.csv").write_text("image\na.png\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"name of a split, and others do not.*1 of 5 have none.*more\.csv"):
        read(table(home))


def test_paths_begin_at_the_base_and_may_lead_into_folders_that_are_named(home: Path, tmp_path: Path) -> None:
    text = f"image\na.png\n.\\b.png\n{home}/c.png\n d.png \n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert set(read(table(tmp_path / "t.csv", base=str(home)))[0]) == {"a.png", "b.png", "c.png", "d.png"}
    kept, _ = read(table(tmp_path / "t.csv"))
    assert list(kept) == ["c.png"]  # an absolute path inside of the base
    other = tmp_path / "other"
    other.mkdir()
    (other / "t.csv").write_text(f"image\n{home}/a.png\n", encoding="utf-8")
    assert read(table(other / "t.csv"))[1] == {"t.csv: line 2": "outside_root"}
    assert set(read(table(other / "t.csv", link_roots=[str(home)]))[0]) == {"a.png"}
    with pytest.raises(SourceError, match="missing"):
        read(table(other / "t.csv", base=str(tmp_path / "nowhere")))


def test_the_digest_changes_with_the_table_and_with_every_file_that_it_names(home: Path) -> None:
    mask = hostile.encoded(hostile.photo(0)[:, :, 0], "PNG")
    (home / "m.png").write_bytes(mask)
    text = "image,mask,label\na.png,m.png,x\nb.png,,y\n"
    source = table(home / "t.csv", text, label="label", facts={"mask": {"kind": "mask"}})
    first, before = source.extent(), times_of(source)
    assert first.files == 4
    (home / "d.png").write_bytes(png(77))  # the table does not name it
    assert source.extent() == first
    assert times_of(source) == before
    for name, content in (("a.png", png(50)), ("m.png", mask + b" "), ("t.csv", text.replace("x", "z").encode())):
        old = (home / name).read_bytes()
        (home / name).write_bytes(content)
        assert source.extent().digest != first.digest, name
        assert times_of(source) != before, name
        (home / name).write_bytes(old)
        assert source.extent().digest == first.digest
    (home / "b.png").unlink()
    assert source.extent().digest != first.digest


def test_a_scan_reads_no_image_out_of_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": [png(0)], "other": [{"bytes": png(1), "path": "x.png"}]}), tmp_path / "t.parquet")
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)
    assert table(tmp_path / "t.parquet").extent().files == 1
    assert table(tmp_path / "t.parquet", image="other").extent().files == 1


def take_in(source: Table, output: Path, **params: Any) -> dict[str, Any]:
    output.mkdir()
    return ingest(source, SourceParams(name="table", min_side=4, **params), output, 0)


def test_ingest_takes_in_a_table_with_captions_masks_and_splits(home: Path, tmp_path: Path) -> None:
    mask = hostile.photo(0)[:, :, 0]
    (home / "m.png").write_bytes(hostile.encoded(mask, "PNG"))
    (home / "notes.txt").write_text("no picture", encoding="utf-8")
    source = table(
        home / "t.csv",
        "image,label,part,caption,mask\na.png,x,train,A thing,m.png\nb.png,y,test,Another,\nc.png,x,train,,\n"
        "notes.txt,x,train,,\n",
        label="label",
        split="part",
        facts={"caption": {"kind": "caption", "use": "given"}, "mask": {"kind": "mask"}},
    )
    card = take_in(source, tmp_path / "out", val_fraction=0)
    rows = {os.path.basename(r["path"]): r for r in read_manifest(tmp_path / "out" / "manifest.parquet").to_pylist()}
    assert {name: (row["split"], row["label"]) for name, row in rows.items()} == {
        "a.png": ("train", "x"),
        "b.png": ("test", "y"),
        "c.png": ("train", "x"),
    }
    assert [(r["path"], r["reason"]) for r in read_quarantine(tmp_path / "out" / "quarantine.parquet").to_pylist()] == [
        (str(home / "notes.txt"), "not_an_image")  # the table means it, so it is not left out
    ]
    facts = read_facts(tmp_path / "out")
    at = {key: i for i, key in enumerate(facts.keys)}
    assert facts.captions["caption"][at[rows["a.png"]["key"]]] == ("A thing",)
    assert card["facts"]["mask"]["known"] == 1
    assert card["facts"]["caption"]["use"] == "given"
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["found"] == 4


def test_a_mask_that_is_none_is_an_error_that_names_the_row(home: Path, tmp_path: Path) -> None:
    text = "image,mask\na.png,t.csv\nb.png,\n"
    with pytest.raises(SourceError, match=r"mask cannot be read.*t\.csv: line 2"):
        take_in(table(home / "t.csv", text, facts={"mask": {"kind": "mask"}}), tmp_path / "out")


def test_images_in_parquet_give_the_same_bytes_twice(tmp_path: Path) -> None:
    rows = [png(i) for i in range(6)]
    pq.write_table(pa.table({"image": rows, "y": list("ababab")}), tmp_path / "t.parquet")
    for name in ("one", "two"):
        take_in(table(tmp_path / "t.parquet", label="y"), tmp_path / name)
    for file in sorted(os.listdir(tmp_path / "one")):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    manifest = read_manifest(tmp_path / "one" / "manifest.parquet").to_pylist()
    tar = (tmp_path / "one" / "images.tar").read_bytes()
    assert sorted(tar[r["offset"] : r["offset"] + r["bytes"]] for r in manifest) == sorted(rows)


def test_a_scan_of_text_imports_neither_numpy_nor_pyarrow(home: Path) -> None:
    (home / "t.csv").write_text("image\na.png\n", encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from stages.ingest.sources.table import Table; "
        f"Table(Path({str(home / 't.csv')!r}), Table.Params()).extent(); "
        "print(sorted({'numpy', 'pyarrow', 'PIL'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=home, check=True)
    assert done.stdout.strip() == "[]"
