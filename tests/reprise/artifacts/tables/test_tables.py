"""Parquet artifacts: schema checked on the way in, same bytes on the way out, a sentence for what is wrong."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reprise.artifacts.embeddings import read_embeddings, taps_in, write_embeddings
from reprise.artifacts.labels.label_sets import SCHEMA as LABEL_SCHEMA
from reprise.artifacts.labels.label_sets import clusters_for, read_pseudo_labels, write_pseudo_labels
from reprise.artifacts.manifest import (
    MANIFEST_SCHEMA,
    QUARANTINE_SCHEMA,
    read_manifest,
    read_quarantine,
    write_manifest,
    write_quarantine,
)
from reprise.artifacts.results import PREDICTIONS_SCHEMA, read_json, read_predictions, write_metrics, write_predictions
from reprise.artifacts.tables.parquet import write_table
from reprise.config.errors import EmbeddingError, ManifestError, ParameterError, PseudoLabelError, ResultError
from reprise.config.plug_ins.registry import load_class, names, subclass_in
from stages.ingest.source import Source
from tests.limits import at_most


def manifest(n: int = 4, **changes: Any) -> pa.Table:
    rows = []
    for i in range(n):
        sha256 = hashlib.sha256(b"%d" % i).hexdigest()
        facts = {
            "key": sha256[:24],
            "path": f"{i}.png",
            "offset": 0,
            "bytes": 9,
            "split": "train",
            "label": None,
            "width": 2,
            "height": 3,
        }
        facts |= {"channels": 1, "format": "PNG", "plain": True, "pixels": sha256, "sha256": sha256, "group": None}
        rows.append(facts | changes)
    return pa.Table.from_pylist(rows, MANIFEST_SCHEMA)


def test_a_manifest_comes_back_sorted_by_key(tmp_path: Path) -> None:
    table = manifest()
    write_manifest(tmp_path / "m", table)
    back = read_manifest(tmp_path / "m")
    assert back.equals(table.sort_by("key"))
    write_manifest(tmp_path / "n", table.take([3, 1, 0, 2]))
    assert (tmp_path / "m").read_bytes() == (tmp_path / "n").read_bytes()
    assert read_manifest(tmp_path / "m", ["key", "split"]).column_names == ["key", "split"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop_columns("label"), "column 'label' is missing"),
        (lambda t: t.append_column("more", pa.array([1] * 4)), "unexpected column 'more'"),
        (lambda t: t.set_column(6, "width", pa.array([1] * 4, pa.int64())), "column 'width' must be int32"),
        (
            lambda t: t.set_column(0, pa.field("key", pa.string()), pa.array([None, "a", "b", "c"])),
            "column 'key' must not have empty values",
        ),
        (lambda t: pa.concat_tables([t, t]), "keys must be unique"),
        (
            lambda t: t.set_column(4, "split", pa.array(["train", "x", "y", "val"])),
            "a split must be train, val or test",
        ),
    ],
)
def test_a_manifest_of_another_form_is_named(tmp_path: Path, change: Any, words: str) -> None:
    pq.write_table(change(manifest()), tmp_path / "m")
    with pytest.raises(ManifestError, match=words) as caught:
        read_manifest(tmp_path / "m")
    assert "dvc repro ingest" in caught.value.fix


@pytest.mark.parametrize(("change", "words"), [({"key": "same"}, "unique"), ({"split": "training"}, "a split must be")])
def test_a_wrong_manifest_is_not_written(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        write_manifest(tmp_path / "m", manifest(**change))
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "damage", [lambda d: d[:100], lambda d: b"", lambda d: b"no parquet at all", lambda d: d[:-8] + b"\0" * 8]
)
def test_a_damaged_file_is_a_sentence(tmp_path: Path, damage: Any) -> None:
    write_manifest(tmp_path / "m", manifest())
    (tmp_path / "m").write_bytes(damage((tmp_path / "m").read_bytes()))
    with pytest.raises(ManifestError, match="not readable Parquet"):
        read_manifest(tmp_path / "m")
    with pytest.raises(ManifestError, match="the file is missing"):
        read_manifest(tmp_path / "none")


def test_damage_inside_the_pages_is_found(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m", manifest(500))
    data = bytearray((tmp_path / "m").read_bytes())
    data[40:4000] = b"\xff" * 3960
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(ManifestError, match="damaged"):
        read_manifest(tmp_path / "m")


def test_quarantine_comes_back_sorted(tmp_path: Path) -> None:
    rows = [{"path": p, "reason": r, "detail": "", "sha256": None} for p, r in (("b", "x"), ("a", "y"), ("a", "x"))]
    write_quarantine(tmp_path / "q", pa.Table.from_pylist(rows, QUARANTINE_SCHEMA))
    back = read_quarantine(tmp_path / "q").to_pylist()
    assert [(r["path"], r["reason"]) for r in back] == [("a", "x"), ("a", "y"), ("b", "x")]


def labels(clusters: list[int | None], keys: str = "cab") -> pa.Table:
    rows = [
        {"key": k, "cluster": c, "distance": None, "confidence": None, "round": 0}
        for k, c in zip(keys, clusters, strict=True)
    ]
    return pa.Table.from_pylist(rows, LABEL_SCHEMA)


def test_pseudo_labels_are_joined_by_key(tmp_path: Path) -> None:
    write_pseudo_labels(tmp_path / "p", labels([5, None, 2]))
    table = read_pseudo_labels(tmp_path / "p")
    assert clusters_for(table, np.array(["a", "b", "c", "new"], object), "p").tolist() == [-1, 2, 5, -1]
    with pytest.raises(PseudoLabelError, match=r"other images.*such as a"):
        clusters_for(table, np.array(["b", "c"], object), "p")


def test_pseudo_labels_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PseudoLabelError, match="unique"):
        write_pseudo_labels(tmp_path / "p", labels([1, 2, 3], "aab"))
    write_pseudo_labels(tmp_path / "p", labels([1, -2, 3]))
    with pytest.raises(PseudoLabelError, match="numbered from 0"):
        read_pseudo_labels(tmp_path / "p")


KEYS, SPLITS = np.array(["b", "a", "c"], object), np.array(["train", "test", "train"], object)
VALUES = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_embeddings_are_sorted_by_key_and_read_by_tap_and_split(tmp_path: Path) -> None:
    path = tmp_path / "e"
    write_embeddings(path, KEYS, SPLITS, {"backbone": VALUES, "projector1": VALUES[:, :1] * 10})
    assert taps_in(path) == ["backbone", "projector1"]
    keys, splits, values = read_embeddings(path)
    assert keys.tolist() == ["a", "b", "c"]
    assert splits.tolist() == ["test", "train", "train"]
    assert values.tolist() == [[2, 3], [0, 1], [4, 5]]
    keys, _, values = read_embeddings(path, "projector1", "train")
    assert keys.tolist() == ["b", "c"]
    assert values.tolist() == [[0], [40]]
    with pytest.raises(EmbeddingError, match="no tap 'projector9'"):
        read_embeddings(path, "projector9")
    with pytest.raises(EmbeddingError, match="no row belongs to split 'val'"):
        read_embeddings(path, split="val")


@pytest.mark.parametrize(
    ("keys", "values", "words"),
    [
        (np.array(["a", "a", "b"], object), VALUES, "unique"),
        (KEYS, VALUES[:2], "one row for each key"),
        (KEYS, VALUES * np.nan, "not finite"),
        (KEYS, np.full((3, 2), np.inf), "not finite"),
    ],
)
def test_embeddings_that_cannot_be_are_not_written(
    tmp_path: Path, keys: np.ndarray, values: np.ndarray, words: str
) -> None:
    with pytest.raises(EmbeddingError, match=words):
        write_embeddings(tmp_path / "e", keys, SPLITS, {"backbone": values})
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "0.5", True])
def test_metrics_are_finite_numbers(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ResultError, match=r"knn\.top1"):
        write_metrics(tmp_path / "m.json", {"knn": {"top1": {"value": value}}})
    assert not (tmp_path / "m.json").exists()


def test_metrics_and_predictions_come_back(tmp_path: Path) -> None:
    metrics = {"knn": {"top1": {"value": 0.5, "low": None, "high": None, "n": 3}}}
    write_metrics(tmp_path / "m.json", metrics)
    assert read_json(tmp_path / "m.json") == metrics
    rows = [{"key": k, "label": "x", "predicted": "y", "correct": False, "score": None, "group": None} for k in "ba"]
    write_predictions(tmp_path / "p", pa.Table.from_pylist(rows, PREDICTIONS_SCHEMA))
    assert [r["key"] for r in read_predictions(tmp_path / "p").to_pylist()] == ["a", "b"]
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(ResultError, match="not JSON"):
        read_json(tmp_path / "m.json")
    with pytest.raises(ResultError, match="missing"):
        read_json(tmp_path / "none.json")


def test_plug_ins_are_found_by_file_name() -> None:
    assert {"cifar10", "cifar100", "digits", "folder", "shapes"} <= set(names("sources"))
    assert names("sources") == sorted(names("sources"))
    assert all(issubclass(load_class("sources", name, Source, "source.name"), Source) for name in names("sources"))
    with pytest.raises(ParameterError, match="Did you mean 'folder'"):
        load_class("sources", "foldr", Source, "source.name")
    import stages.ingest.candidates.select as no_plug_in

    with pytest.raises(ParameterError, match="exactly one subclass of Source"):
        subclass_in(no_plug_in, Source)


def test_pyarrow_leaves_pandas_alone_and_people_can_still_use_it() -> None:
    code = (
        "import sys, pyarrow as pa\n"
        "from reprise.artifacts.tables.parquet import leave_out_pandas\n"
        "leave_out_pandas()\n"
        "table = pa.table({'a': [1, 2]})\n"
        "assert table.to_pylist() == [{'a': 1}, {'a': 2}] and 'pandas' not in sys.modules\n"
        "assert table.to_pandas()['a'].tolist() == [1, 2] and 'pandas' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_table_of_more_rows_than_its_length_can_hold_is_damaged(tmp_path: Path) -> None:
    """A run of one value takes a few bytes on disk, and as many rows in memory as its author likes."""
    rows = 2_000_000
    run = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(["x"])).cast(pa.string())
    bomb = pa.table([run, run, run, run], schema=QUARANTINE_SCHEMA)
    write_table(tmp_path / "bomb.parquet", bomb)
    assert (tmp_path / "bomb.parquet").stat().st_size < 50_000
    with (
        at_most(megabytes=100, seconds=5),
        pytest.raises(ManifestError, match="2000000 rows, and a file of this length"),
    ):
        read_quarantine(tmp_path / "bomb.parquet")


def test_a_mutated_table_is_read_or_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    write_manifest(path, manifest(40))
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data) - len(data) // 3, len(data))] = rng.integers(256)  # the footer is at the end
        path.write_bytes(bytes(data))
        try:
            read_manifest(path)
        except ManifestError as error:
            assert len(str(error)) < 5000  # noqa: PT017
