"""Pseudo-labels: one row for each training image. A null cluster means "no label": the image is like no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reprise.artifacts.tables.columns import Keys, Texts, places
from reprise.artifacts.tables.parquet import read_table, write_table
from reprise.config.errors import PseudoLabelError

FILE = "pseudo_labels.parquet"
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("cluster", pa.int32(), nullable=True),
        pa.field("distance", pa.float32(), nullable=True),  # to the cluster's centre, in the feature's units
        pa.field("confidence", pa.float32(), nullable=True),  # in [0, 1]; each miner states its meaning
        pa.field("round", pa.int32(), nullable=False),
    ]
)
GIVEN = "given"  # whether the miner got the image's true label; only of miners that get some
FURTHER_SCHEMA = pa.schema([pa.field(GIVEN, pa.bool_(), nullable=False)])
_FIX = "Run `dvc repro mine` to write it again."
NO_LABEL = -1  # stands for null in arrays
_PAIRS = b"reprise.pairs"  # in the file's metadata: a digest of the pairs beside it


def write_pseudo_labels(path: str | Path, table: pa.Table, pairs: str | None = None) -> None:
    """Write rows sorted by key.

    Args:
        path: the file.
        table: of SCHEMA, perhaps with columns of FURTHER_SCHEMA.
        pairs: a digest of the file of pairs that belongs to the label set. It is written down here, so that whoever
            depends on this file depends on the pairs as well.
    """
    schema = pa.schema([*SCHEMA, *(field for field in FURTHER_SCHEMA if field.name in table.column_names)])
    table = table.select(schema.names).cast(schema).sort_by("key")
    if pairs is not None:
        table = table.replace_schema_metadata({_PAIRS: pairs.encode()})
    _refuse_repeated(table, path)
    write_table(path, table)


def read_pseudo_labels(path: str | Path) -> pa.Table:
    """Read and check a pseudo-label file.

    Raises:
        PseudoLabelError: the file is missing, damaged or of another schema, a key is repeated, a cluster is negative,
            or a confidence lies outside [0, 1].
    """
    table = read_table(path, SCHEMA, PseudoLabelError, _FIX, further=FURTHER_SCHEMA)
    _refuse_repeated(table, path)
    clusters = table["cluster"].drop_null().to_numpy()
    if len(clusters) and clusters.min() < 0:
        raise PseudoLabelError("clusters must be numbered from 0", where=path, found=int(clusters.min()), fix=_FIX)
    confidences = table["confidence"].drop_null().to_numpy()
    if not ((confidences >= 0) & (confidences <= 1)).all():  # NaN is neither
        raise PseudoLabelError(
            "confidences must lie between 0 and 1",
            where=path,
            found=f"{confidences.min()} to {confidences.max()}",
            fix=_FIX,
        )
    return table


def digest_of_pairs(path: str | Path) -> str | None:
    """Return the digest of the pairs that belong to a file of pseudo-labels; None where it has none.

    Args:
        path: a file that `read_pseudo_labels` has read.
    """
    found = (pq.read_schema(path).metadata or {}).get(_PAIRS)
    return None if found is None else found.decode("ascii", errors="replace")


def clusters_for(table: pa.Table, keys: Keys, path: str | Path) -> np.ndarray:
    """Return the cluster of each key; `NO_LABEL` (-1) where the table has none.

    Args:
        table: pseudo-labels.
        keys: (n,) strings.
        path: file of the table, for messages.

    Returns:
        (n,) int64.

    Raises:
        PseudoLabelError: the table names images that are not among `keys`, so it belongs to another data set.
    """
    rows = places(keys, Texts(table["key"]))
    met = np.zeros(table.num_rows, bool)
    met[rows[rows >= 0]] = True
    if not met.all():
        foreign = Texts(table["key"])[~met].tolist()
        raise PseudoLabelError(
            "the labels belong to other images",
            where=path,
            found=f"{len(foreign)} unknown keys, such as {min(foreign)}",
            fix=_FIX,
        )
    return _taken(table["cluster"], rows, NO_LABEL, np.int64)


def confidences_for(table: pa.Table, keys: Keys) -> np.ndarray:
    """Return the confidence of each key, for methods that use it as a weight.

    It is 0 where the table does not have the key, or where the image has no label or no confidence.

    Args:
        table: pseudo-labels.
        keys: (n,) strings.

    Returns:
        (n,) float32 in [0, 1].
    """
    labelled = pc.if_else(pc.is_valid(table["cluster"]), table["confidence"], 0.0)
    return _taken(labelled, places(keys, Texts(table["key"])), 0.0, np.float32)


def given_for(table: pa.Table, keys: Keys) -> np.ndarray | None:
    """Return which images' true labels the miner got; None where the label set does not say it.

    Args:
        table: pseudo-labels.
        keys: (n,) strings.

    Returns:
        (n,) bool, False for a key that the table does not have.
    """
    if GIVEN not in table.column_names:
        return None
    return _taken(table[GIVEN], places(keys, Texts(table["key"])), False, np.bool_)


def _taken(column: pa.ChunkedArray, rows: np.ndarray, empty: object, dtype: type[np.generic]) -> np.ndarray:
    """Take rows of a column as (n,) numbers; -1 is no row, which is `empty` like null."""
    values = column.fill_null(empty).to_numpy().astype(dtype)
    return np.append(values, np.array(empty, dtype))[rows]


def _refuse_repeated(table: pa.Table, path: str | Path) -> None:
    if repeated := table.num_rows - pc.count_distinct(table["key"]).as_py():
        raise PseudoLabelError("keys must be unique", where=path, found=f"{repeated} repeated", fix=_FIX)
