"""The source `hf_parquet`, held against what the package `datasets` writes and reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reprise.artifacts.manifest import read_manifest
from reprise.config.errors import SourceError
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, Once, Refused
from stages.ingest.sources.hf_parquet import HfParquet
from stages.ingest.tables.hugging_face import class_names
from tests.stages.ingest import hostile

Rows = list[tuple[str | None, str | None, bytes]]  # split, label, bytes


def png(seed: int) -> bytes:
    return hostile.encoded(hostile.photo(seed), "PNG")


def source(root: Path, **options: Any) -> HfParquet:
    return HfParquet(root, HfParquet.Params.model_validate(options))


def read(root: Path, **options: Any) -> list[Candidate | Refused]:
    return list(source(root, **options).candidates())


def rows(items: list[Candidate | Refused]) -> Rows:
    found = []
    for item in items:
        assert isinstance(item, Candidate), item
        assert isinstance(item.reference, Once)
        found.append((item.split, item.label, item.reference.data))
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """Folders that `datasets` wrote: `saved` (three splits), `one` (no split, three files), `hub` (Parquet)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        datasets = pytest.importorskip("datasets")
        datasets.disable_progress_bars()
        folder = tmp_path_factory.mktemp("hugging_face")
        boxes = {"bbox": datasets.List(datasets.List(datasets.Value("float32"))), "category": datasets.List(
            datasets.ClassLabel(names=["wheel", "door"]))}  # fmt: skip
        features = datasets.Features(
            {
                "picture": datasets.Image(),
                "kind": datasets.ClassLabel(names=["cat", "dog"]),
                "text": datasets.Value("string"),
                "objects": boxes,
            }
        )

        def data(first: int, count: int) -> Any:
            numbers = range(first, first + count)
            return datasets.Dataset.from_dict(
                {
                    "picture": [{"bytes": png(i), "path": f"{i}.png"} for i in numbers],
                    "kind": [i % 3 - 1 for i in numbers],
                    "text": [f"picture {i}" for i in numbers],
                    "objects": [{"bbox": [[0, 0, 1 + i, 2]], "category": [i % 2]} for i in numbers],
                },
                features=features,
            )

        everything = datasets.DatasetDict({"train": data(0, 7), "validation": data(7, 3), "test": data(10, 4)})
        everything.save_to_disk(folder / "saved")
        everything["train"].save_to_disk(folder / "one", num_shards=3)
        (folder / "hub/data").mkdir(parents=True)
        for split, part in everything.items():
            part.to_parquet(folder / f"hub/data/{split}-00000-of-00001.parquet")
        (folder / "hub/README.md").write_text("card", encoding="utf-8")
        yield folder, datasets


def as_datasets_reads(data: Any, datasets: Any) -> Rows:
    """Every row of a data set by the package itself, with our names of splits, bytes undecoded."""
    meant = {"train": "train", "validation": "val", "test": "test", None: None}
    found: Rows = []
    for split, part in data.items() if isinstance(data, dict) else [(None, data)]:
        names = part.features["kind"].names
        for row in part.cast_column("picture", datasets.Image(decode=False)):
            label = None if row["kind"] == -1 else names[row["kind"]]
            found.append((meant[split], label, row["picture"]["bytes"]))
    return found


@pytest.mark.parametrize("folder", ["saved", "one"])
def test_saved_folders_hold_what_datasets_reads(written: tuple[Path, Any], folder: str) -> None:
    root, datasets = written
    theirs = as_datasets_reads(datasets.load_from_disk(root / folder), datasets)
    assert rows(read(root / folder)) == theirs
    assert len(theirs) == {"saved": 14, "one": 7}[folder]


def test_a_folder_of_the_hub_holds_what_datasets_reads(written: tuple[Path, Any]) -> None:
    root, datasets = written
    theirs = as_datasets_reads(datasets.load_dataset(str(root / "hub")), datasets)
    assert sorted(rows(read(root / "hub")), key=repr) == sorted(theirs, key=repr)


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"],
        ["my_train.parquet", "my-dev.parquet"],
        ["train/0.parquet", "train/1.parquet", "eval/0.parquet"],
        ["training 1.parquet", "valid 2.parquet", "evaluation.parquet"],
        [
            "data/validation-00000-of-00001-0123456789abcdef.parquet",
            "data/train-00000-of-00001-0123456789abcdef.parquet",
        ],
    ],
)
def test_splits_are_those_that_datasets_finds(written: tuple[Path, Any], names: list[str], tmp_path: Path) -> None:
    _, datasets = written
    for i, name in enumerate(names):
        path = tmp_path / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"image": [png(i)], "n": [i]}), path)
    theirs = {
        (n, {"validation": "val"}.get(split, split))
        for split, part in datasets.load_dataset(str(tmp_path / "home"), cache_dir=str(tmp_path / "cache")).items()
        for n in part["n"]
    }
    ours = read(tmp_path / "home", facts={"n": {"kind": "number"}})
    assert {(int(item.facts["n"]), item.split) for item in ours if isinstance(item, Candidate)} == theirs


def test_facts_come_from_fields_of_structs_and_classes_have_their_names(written: tuple[Path, Any]) -> None:
    options = {
        "labels": {"column": "objects.category", "names": {"wheel": "wheel", "door": "door"}},
        "facts": {
            "caption": {"kind": "caption", "column": "text"},
            "boxes": {"kind": "boxes", "column": "objects.bbox"},
        },
    }
    for folder in ("saved", "hub"):
        own = source(written[0] / folder, **options)
        first = next(item for item in own.candidates() if item.name.endswith("row 1 (0.png)") and "train" in item.name)
        assert isinstance(first, Candidate)
        assert first.facts == {"wheel": 1, "door": 0, "caption": ("picture 0",), "boxes": [(0, 0, 1, 2)]}


def test_what_was_understood_is_said(written: tuple[Path, Any]) -> None:
    own = source(written[0] / "hub")
    list(own.candidates())
    said = " ".join(own.understood())
    assert "The split validation is val (1 files)." in said
    assert "The classes have the 2 names that the files state." in said
    assert "picture is the image, kind is the class" in said
    assert "Columns that are not used: text, objects." in said


def test_tables_that_are_not_read_are_said(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "train-00000-of-00001.parquet")
    for name in ("test.csv", "test-00000-of-00001.PARQUET", "cache-1.parquet", "README.md"):
        (tmp_path / name).write_bytes(b"x")
    own = source(tmp_path)
    list(own.candidates())
    assert any("not read: 2, such as test-00000-of-00001.PARQUET" in sentence for sentence in own.understood())


def test_names_of_classes_are_found_in_every_form_of_lists() -> None:
    kind = {"names": ["a"], "_type": "ClassLabel"}
    for listed in ({"feature": kind, "_type": "List"}, {"feature": kind, "_type": "Sequence"}, [kind]):
        assert class_names({"x": kind, "y": listed, "z": {"w": listed}}) == {"x": ["a"], "y": ["a"], "z.w": ["a"]}


def hub(root: Path, *names: str, **columns: list[Any]) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns or {"image": [png(2 * i), png(2 * i + 1)]}), root / name)
    return root


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], {}, "no data set of Hugging Face"),
        (["train_sft-00000-of-00001.parquet"], {}, r"train_sft.*source\.options\.splits.*\{train_sft: train\}"),
        (["train.parquet", "0001.parquet"], {}, "no split in their names"),
        (["cats/train.parquet", "dogs/train.parquet"], {}, r"several folders.*cats, dogs.*source\.root"),
        (["train.parquet"], {"splits": {"trian": "train"}}, "splits that are not there.*trian"),
        (["train.parquet"], {"image": "pictures"}, "no column 'pictures'.*columns image"),
    ],
)
def test_what_can_be_read_in_several_ways_is_asked(
    tmp_path: Path, names: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read(hub(tmp_path, *names), **options)


def test_splits_of_other_names_and_files_without_any(tmp_path: Path) -> None:
    found = read(
        hub(tmp_path / "a", "big-00000-of-00001.parquet", "more-00000-of-00001.parquet"),
        splits={"big": "test", "more": "unlabelled"},
    )
    assert [item.split for item in found if isinstance(item, Candidate)] == ["test", "test", "train", "train"]
    assert {item.split for item in read(hub(tmp_path / "b", "0.parquet", "1.parquet"))} == {None}  # type: ignore[union-attr]


def test_columns_are_asked_for_where_there_are_several(tmp_path: Path) -> None:
    two = hub(tmp_path / "a", "train.parquet", image=[png(0)], other=[png(1)])
    with pytest.raises(SourceError, match=r"images.*image, other.*source\.options\.image"):
        read(two)
    assert len(read(two, image="other")) == 1
    with pytest.raises(SourceError, match=r"columns of images: none; all columns: n"):
        read(hub(tmp_path / "b", "train.parquet", n=[1]))
    features = {
        "info": {
            "features": {"a": {"names": ["x"], "_type": "ClassLabel"}, "b": {"names": ["y"], "_type": "ClassLabel"}}
        }
    }
    table = pa.table({"image": [png(0)], "a": [0], "b": [0]})
    (tmp_path / "c").mkdir()
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "c/train.parquet")
    with pytest.raises(SourceError, match=r"several columns hold classes.*a, b"):
        read(tmp_path / "c")
    assert [item.label for item in read(tmp_path / "c", label="b")] == ["y"]  # type: ignore[union-attr]


def test_files_that_disagree_about_the_classes_are_refused(tmp_path: Path) -> None:
    for i, name in enumerate(("train", "test")):
        features = {"info": {"features": {"y": {"names": [f"{i}", "z"], "_type": "ClassLabel"}}}}
        table = pa.table({"image": [png(i)], "y": [0]})
        pq.write_table(
            table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / f"{name}.parquet"
        )
    with pytest.raises(SourceError, match="the same classes"):
        read(tmp_path)


def test_hostile_rows_are_refused_one_by_one(tmp_path: Path) -> None:
    features = {"info": {"features": {"y": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    (tmp_path / "root").mkdir()
    (tmp_path / "root/in.png").write_bytes(png(7))
    (tmp_path / "out.png").write_bytes(png(8))
    images = [
        {"bytes": png(0), "path": "../../etc/passwd"},  # its bytes count, and the path is only a name
        {"bytes": None, "path": "../out.png"},
        {"bytes": None, "path": str(tmp_path / "out.png")},
        {"bytes": None, "path": None},
        {"bytes": b"", "path": None},
        {"bytes": png(1), "path": None},
        {"bytes": None, "path": "in.png"},
        {"bytes": png(2), "path": None},
    ]
    table = pa.table({"image": images, "y": [0, 0, 0, 0, 0, 9, 1, -1]})
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "root/train.parquet"
    )
    found = read(tmp_path / "root")
    assert [(item.name, item.reason) for item in found if isinstance(item, Refused)] == [
        (f"train.parquet: row {number}", reason)
        for number, reason in (
            (2, "outside_root"), (3, "outside_root"), (4, "empty_cell"), (5, "empty_cell"), (6, "bad_value"),
        )
    ]  # fmt: skip
    kept = [item for item in found if isinstance(item, Candidate)]
    assert [(item.name.removeprefix(f"{tmp_path}/"), item.label) for item in kept] == [
        ("train.parquet: row 1 (passwd)", "a"),
        ("train.parquet: row 8", None),
        ("root/in.png", "b"),
    ]


def test_text_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    text = pa.array([b"good", b"b\xffd"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"image": [png(0), png(1)], "y": text}), tmp_path / "train.parquet")
    found = read(tmp_path, label="y")
    assert [getattr(item, "reason", None) for item in found] == [None, "not_utf8"]


def saved(root: Path, state: Any, name: str = "data-00000-of-00001.arrow") -> Path:
    root.mkdir()
    table = pa.table({"image": [png(0)]})
    with pa.OSFile(str(root / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    (root / "state.json").write_text(state if isinstance(state, str) else json.dumps(state), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"_data_files": [{"filename": "../home/data-00000-of-00001.arrow"}]}, "is no name"),
        ({"_data_files": [{"filename": "/etc/passwd"}]}, "is no name"),
        ({"_data_files": [{"filename": 3}]}, "is no name"),
        ({"_data_files": [{"filename": "data-00001-of-00002.arrow"}]}, "is not there"),
        ({"_data_files": []}, "no data set"),
        ({"_data_files": [{"filename": "x"}], "_indices_data_files": [{"filename": "y"}]}, "flatten_indices"),
        ("[" * 100_000, "cannot be read"),
        ("{", "cannot be read"),
    ],
)
def test_a_description_that_lies_is_an_error(tmp_path: Path, state: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(saved(tmp_path / "home", state))


def test_cut_arrow_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    root = saved(tmp_path / "home", {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]})
    assert len(read(root)) == 1
    path = root / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(SourceError, match=r"cannot be read.*data-00000-of-00001\.arrow"):
        read(root)


def test_a_link_into_the_cache_of_the_hub_is_followed_where_it_may_be(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    hub(blobs, "0123")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "train.parquet").symlink_to(blobs / "0123")
    with pytest.raises(SourceError, match=r"link_roots"):
        read(snapshot)
    assert len(read(snapshot, link_roots=[str(blobs)])) == 2


def test_ingest_takes_in_what_was_saved_and_the_digest_covers_every_file(
    written: tuple[Path, Any], tmp_path: Path
) -> None:
    own = source(written[0] / "saved")
    (tmp_path / "out").mkdir()
    card = ingest(own, SourceParams(name="hf_parquet", near_copies="report"), tmp_path / "out", 0)
    assert card["counts"] == {"train": 7, "val": 3, "test": 4}
    assert card["class_counts"] == {"cat": 5, "dog": 4}
    manifest = read_manifest(tmp_path / "out/manifest.parquet")
    assert set(manifest["path"].to_pylist()) == {"data/ingest/images.tar"}
    hub(tmp_path / "hub", "train.parquet", "test.parquet")
    first = source(tmp_path / "hub").extent()
    (tmp_path / "hub/test.parquet").write_bytes((tmp_path / "hub/train.parquet").read_bytes())
    assert source(tmp_path / "hub").extent().digest != first.digest
