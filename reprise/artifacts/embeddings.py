"""Embeddings: Parquet with `key`, `split` and, for each tap, a fixed-size list of float32.

Rows are joined by key, never by position. A tap is a place in the network where features are read: `backbone` (P3 of
G-SimCLR's evaluation), then `projector1` and `projector2` (P2 and P1: after the first and the second layer of the
projector). Runs that learn clusters have taps that are no features but what label sets are made of: `assigner`,
memberships in clusters whose rows sum to 1, and `codes`, vectors of length one whose products say which images belong
together. `pass1` and `pass2` are features of two changed copies of each image, by which label sets tell how sure they
are. `units` are the largest response of each unit of the map, its row and its column, for patterns with boxes.
Features for mining use the same file with a single tap, `features`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reprise.artifacts.tables.columns import Keys, Texts, column_of, shared_objects
from reprise.artifacts.tables.parquet import read_table, write_table
from reprise.config.errors import EmbeddingError

FILE = "embeddings.parquet"
PASSES = ("pass1", "pass2")  # the backbone's features of two changed copies of each image
OF_CLUSTERS = ("assigner", "codes", "units", *PASSES)  # taps that miners read and probes do not
_BASE = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("split", pa.string(), nullable=False)])
_FIX = "Run `dvc repro embed` (or `features`) to write it again."


def write_embeddings(path: str | Path, keys: Keys, splits: np.ndarray, taps: dict[str, np.ndarray]) -> None:
    """Write embeddings sorted by key.

    Args:
        path: the file.
        keys: (n,) strings, unique.
        splits: (n,) strings.
        taps: name -> (n, d) float array, in the order in which readers should prefer them.

    Raises:
        EmbeddingError: NaN or infinite values, repeated keys, lengths that differ.
    """
    column = column_of(keys)
    order = pc.sort_indices(column).to_numpy()  # by bytes of UTF-8, which is the order of Python's strings
    columns: dict[str, pa.Array] = {
        "key": column.take(order).combine_chunks(),
        "split": pa.array(splits[order], pa.string()),
    }
    if repeated := len(column) - pc.count_distinct(column).as_py():
        raise EmbeddingError("keys must be unique", where=path, found=f"{repeated} repeated", fix=_FIX)
    for name, values in taps.items():
        if values.shape[0] != len(keys):
            raise EmbeddingError(
                f"tap '{name}' must have one row for each key",
                where=path,
                found=f"{values.shape[0]} rows for {len(keys)} keys",
                fix=_FIX,
            )
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values).all(axis=1)).sum())
            raise EmbeddingError(
                f"tap '{name}' has values that are not finite",
                where=path,
                found=f"{bad} rows",
                fix="Look at the training curve: the run diverged. Lower its learning rate.",
            )
        flat = pa.array(np.ascontiguousarray(values[order], dtype=np.float32).reshape(-1), pa.float32())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    write_table(path, pa.table(columns))


def taps_in(path: str | Path) -> list[str]:
    """Return the names of the taps in a file, preferred first."""
    read_table(path, _BASE, EmbeddingError, _FIX, columns=["key"], exact=False)
    return [n for n in pq.read_schema(path).names if n not in _BASE.names]


def feature_taps_in(path: str | Path) -> list[str]:
    """Return the names of the taps that hold features, preferred first."""
    return [name for name in taps_in(path) if name not in OF_CLUSTERS]


def read_embeddings(
    path: str | Path, tap: str | None = None, split: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read one tap of all splits or of one.

    Args:
        path: the file.
        tap: its name; None takes the preferred one.
        split: None takes all.

    Returns:
        keys (n,) object strings, splits (n,) object strings, values (n, d) float32; sorted by key.

    Raises:
        EmbeddingError: the file is missing or damaged, the tap is unknown, the split is empty, or values are not
            finite.
    """
    names = taps_in(path)
    tap = tap or (names[0] if names else "")
    if tap not in names:
        raise EmbeddingError(f"no tap '{tap}'", where=path, found=f"taps {', '.join(names)}", fix="Name one of these.")
    table = read_table(path, _BASE, EmbeddingError, _FIX, columns=["key", "split", tap], exact=False)
    column = table[tap].combine_chunks()
    if not pa.types.is_fixed_size_list(column.type) or column.type.value_type != pa.float32() or column.null_count:
        raise EmbeddingError(
            f"tap '{tap}' must be a fixed-size list of float32 without empty rows",
            where=path,
            found=column.type,
            fix=_FIX,
        )
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
    keys, splits = np.asarray(Texts(table["key"])), shared_objects(table["split"])
    if not np.isfinite(values).all():
        raise EmbeddingError(
            f"tap '{tap}' has values that are not finite", where=path, found=int((~np.isfinite(values)).sum()), fix=_FIX
        )
    if split is not None:
        chosen = splits == split
        if not chosen.any():
            raise EmbeddingError(
                f"no row belongs to split '{split}'",
                where=path,
                found=f"splits {', '.join(sorted(set(splits)))}",
                fix="Check the splits of the manifest.",
            )
        keys, splits, values = keys[chosen], splits[chosen], values[chosen]
    return keys, splits, values
