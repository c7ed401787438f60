"""Joining by key, splits, and which split is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reprise.artifacts.embeddings import read_embeddings, write_embeddings
from reprise.artifacts.manifest import MANIFEST_SCHEMA, read_manifest, write_manifest
from reprise.config.errors import EmbeddingError
from stages.probe.data import ProbeData


def test_labels_follow_their_key(make) -> None:
    data = make()
    table = read_manifest("data/manifest.parquet")
    label = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    part = data.part("test")
    assert [data.classes[i] for i in part.labels] == [label[k] for k in part.keys]
    keys, _, values = read_embeddings("data/embeddings.parquet", "backbone", "test")
    assert keys.tolist() == part.keys.tolist()
    assert (data.features("test") == values).all()
    assert sum(len(data.part(s)) for s in ("train", "val", "test")) == table.num_rows


def test_further_taps_are_read_when_asked_for(make, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(taps={"projector1": 5})
    assert data.taps == ("backbone", "projector1")
    assert data.features("val", "projector1").shape == (60, 5)
    with pytest.raises(EmbeddingError, match="no tap 'projector9'"):
        data.features("val", "projector9")


@pytest.mark.parametrize(("sizes", "scored"), [((9, 4, 3), "test"), ((9, 4, 0), "val"), ((9, 0, 0), "train")])
def test_the_scored_split(make, sizes: tuple[int, int, int], scored: str) -> None:
    data = make(*sizes)
    assert data.test == scored
    assert ("there is no test split" in data.test_note) == (scored != "test")


def test_images_are_chosen_by_key_not_by_position(make) -> None:
    data = make()
    chosen = data.choose("test", 10)
    assert len(chosen) == 10
    assert (np.diff(chosen) > 0).all()
    assert set(chosen) <= set(data.choose("test", 20))
    assert data.choose("test", 1000).tolist() == list(range(80))


def test_images_without_group_stand_alone(make) -> None:
    assert make().part("test").groups is None
    grouped = make(groups=lambda i: f"video {i // 10}" if i % 10 else None)
    groups = np.concatenate([grouped.part(s).groups for s in ("train", "val", "test")])
    assert len(np.unique(groups)) == 34 + 34


def test_embeddings_of_other_images_are_refused(make) -> None:
    make()
    keys, splits, values = read_embeddings("data/embeddings.parquet")
    write_embeddings("data/embeddings.parquet", keys[1:], splits[1:], {"backbone": values[1:]})
    with pytest.raises(EmbeddingError, match="1 images without embedding"):
        ProbeData("data/embeddings.parquet", "data/manifest.parquet")
    write_embeddings("data/embeddings.parquet", keys, np.where(splits == "val", "train", splits), {"backbone": values})
    with pytest.raises(EmbeddingError, match="other splits"):
        ProbeData("data/embeddings.parquet", "data/manifest.parquet")
    write_embeddings("data/embeddings.parquet", keys, splits, {"features": values})
    with pytest.raises(EmbeddingError, match="no tap 'backbone'"):
        ProbeData("data/embeddings.parquet", "data/manifest.parquet")


def test_digest_sees_labels_only_when_asked(make) -> None:
    first = make()
    with_labels, without = first.digest(True), first.digest(False)
    assert ProbeData("data/embeddings.parquet", "data/manifest.parquet").digest(True) == with_labels
    table = read_manifest("data/manifest.parquet")
    other = ["other" if i == 0 else v for i, v in enumerate(table["label"].to_pylist())]
    columns = {n: other if n == "label" else table[n].to_pylist() for n in table.column_names}
    write_manifest("data/manifest.parquet", pa.table(columns, MANIFEST_SCHEMA))
    changed = ProbeData("data/embeddings.parquet", "data/manifest.parquet")
    assert changed.digest(False) == without
    assert changed.digest(True) != with_labels
    assert ProbeData(Path("data/embeddings.parquet"), "data/manifest.parquet", 0.9).digest(False) != without
