"""Manifest, index, facts, embeddings and predictions in DuckDB and pandas: the documented columns, the same values."""

from __future__ import annotations

import re
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
from tests.standards.conftest import PREDICTIONS, RUN

PAGE = Path(__file__).parents[2] / "docs/reference/tables.md"
NAMED = {"RUN": "simclr", "SEED": "0", "SUITE": "quality", "PROBE": "knn"}
FREE = {  # tables whose further columns depend on the data: what this data set has
    layout.ALL_FACTS / "facts.parquet": [
        ("key", "string?"),
        *((word, "string?") for word in ("colour", "background")),
        *((number, "double?") for number in ("x", "y", "scale", "rotation")),
    ],
    RUN: [("key", "string?"), ("split", "string?"), ("backbone", "list[3]?"), ("projector1", "list[2]?")],
}


def documented() -> dict[Path, list[tuple[str, str]]]:
    """Name and type of each column of each table, as the page has them."""
    found = {}
    for part in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name = part.partition("`")[2].partition("`")[0]
        path = Path(re.sub("|".join(NAMED), lambda match: NAMED[match[0]], name))
        found[path] = re.findall(r"^\| `(\w+)` \| (\w+\??) \|", part, re.MULTILINE) or FREE[path]
    return found


TABLES = documented()


def kind(field: pa.Field) -> str:
    listed = pa.types.is_fixed_size_list(field.type)
    return (f"list[{field.type.list_size}]" if listed else str(field.type)) + "?" * field.nullable


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
    assert [(field.name, kind(field)) for field in table.schema] == TABLES[path]
    assert table.column_names == list(frame.columns) == found.columns
    rows = found.fetchall()
    assert len(rows) == len(frame) == table.num_rows
    assert (table.num_rows > 0) == (path not in (layout.QUARANTINE, layout.NOTES))
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
