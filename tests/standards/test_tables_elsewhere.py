"""Manifest, index, facts, embeddings and predictions in DuckDB and pandas: the documented columns, the same values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reprise.artifacts import layout
from reprise.artifacts.embeddings import read_embeddings
from reprise.artifacts.manifest import MANIFEST_SCHEMA, QUARANTINE_SCHEMA
from reprise.artifacts.results import PREDICTIONS_SCHEMA
from reprise.artifacts.shards import INDEX_SCHEMA
from tests.standards.conftest import PREDICTIONS, RUN

FACTS = ["key", "colour", "background", "x", "y", "scale", "rotation"]
TABLES: dict[Path, list[str]] = {
    layout.MANIFEST: MANIFEST_SCHEMA.names,
    layout.QUARANTINE: QUARANTINE_SCHEMA.names,
    layout.SHARDS / "index.parquet": INDEX_SCHEMA.names,
    layout.SHARDS / "sides.parquet": ["key", "fact", "kind", "shard", "offset", "bytes", "ext", "sha256"],
    layout.ALL_FACTS / "facts.parquet": FACTS,
    layout.ALL_FACTS / "captions.parquet": ["key", "fact", "number", "text"],
    RUN: ["key", "split", "backbone", "projector1"],
    PREDICTIONS: PREDICTIONS_SCHEMA.names,
}


def plain(values: list[Any]) -> list[Any]:
    """Lists and missing values as Python writes them, whichever library read them."""
    return [
        list(map(float, v)) if isinstance(v, list | tuple | np.ndarray) else None if pd.isna(v) else v for v in values
    ]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_duckdb_and_pandas_read_the_documented_columns_with_the_same_values(path: Path) -> None:
    table, frame = pq.read_table(path), pd.read_parquet(path)
    found = duckdb.sql(f"select * from '{path}'")
    assert table.column_names == list(frame.columns) == found.columns == TABLES[path]
    rows = found.fetchall()
    assert len(rows) == len(frame) == table.num_rows
    assert (table.num_rows > 0) == (path != layout.QUARANTINE)
    for i, name in enumerate(table.column_names):
        own = plain(table[name].to_pylist())
        assert plain([row[i] for row in rows]) == own, name
        assert plain(frame[name].tolist()) == own, name


@pytest.mark.usefixtures("project")
def test_one_query_joins_labels_facts_embeddings_and_predictions() -> None:
    (joined,) = (
        duckdb.sql(
            f"""
            select m.key, m.label, f.colour, p.correct, e.backbone
            from '{layout.MANIFEST}' m join '{layout.ALL_FACTS}/facts.parquet' f using (key)
            join '{PREDICTIONS}' p using (key) join '{RUN}' e using (key)
            where m.split = 'test' and p.label = m.label order by m.key
            """
        )
        .to_arrow_table()
        .to_batches()
    )
    keys, _, values = read_embeddings(RUN, "backbone", "test")
    predictions = pq.read_table(PREDICTIONS)
    assert joined["key"].to_pylist() == sorted(keys.tolist()) == predictions["key"].to_pylist()
    assert pa.types.is_fixed_size_list(pq.read_schema(RUN).field("backbone").type)
    np.testing.assert_array_equal(np.array(joined["backbone"].to_pylist(), np.float32), values[np.argsort(keys)])
