"""Clusters of a run's embedding: a row for each image of every split, as the probe `clustering` writes it.

Rows are sorted by key, and joined with the manifest by it for paths and splits. No label set: nothing is trained on it.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from reprise.artifacts.tables.parquet import read_table
from reprise.config.errors import ResultError

SUITE, PROBE = "label_free", "clustering"  # which writes it
FILE = f"{PROBE}.parquet"
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("cluster", pa.int32(), nullable=False),  # from 0, by falling size in train
        pa.field("distance", pa.float32(), nullable=False),  # to the centre, of features of length one: 0 to 2
        pa.field("certainty", pa.float32(), nullable=False),  # 1 - d1 / d2: 0 between two clusters, 1 on a centre
    ]
)


def read_image_clusters(path: str | Path) -> pa.Table:
    """Read and check the clusters of a run.

    Raises:
        ResultError: the file is missing, damaged or of another schema, or a cluster is negative.
    """
    fix = "Run `dvc repro probe` to write it again."
    # What a store of results keeps says of no column that it may not be null.
    nullable = pa.schema([pa.field(field.name, field.type) for field in SCHEMA])
    table = read_table(path, nullable, ResultError, fix)
    clusters = table["cluster"].to_numpy()
    if any(column.null_count for column in table.columns) or (len(clusters) and clusters.min() < 0):
        raise ResultError("every image needs a cluster from 0", where=path, found="none, or a negative one", fix=fix)
    return table
