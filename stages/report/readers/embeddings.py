"""Embeddings of a few images, read a block of rows at a time, so that a page about many images needs little memory."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reprise.artifacts.embeddings import taps_in
from reprise.artifacts.tables.parquet import read_table
from reprise.config.errors import EmbeddingError

KEYS_SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("split", pa.string(), nullable=False)])
_FIX = "Run `dvc repro embed` to write it again."
_ROWS = 8192  # of a block


def read_some_embeddings(path: str | Path, keys: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read the preferred tap of a few images, a block of rows at a time: the whole file need not fit into memory.

    Args:
        path: the file.
        keys: of the images; those that the file does not have are left out.

    Returns:
        keys (n,) object strings, values (n, d) float32; sorted by key.

    Raises:
        EmbeddingError: the file is missing or damaged, has no tap, or values are not finite.
    """
    tap = next(iter(taps_in(path)), None)
    if tap is None:
        raise EmbeddingError("there is no tap", where=path, found="keys and splits alone", fix=_FIX)
    wanted, found, blocks = pa.array(sorted(keys), pa.string()), [], []
    try:
        for batch in pq.ParquetFile(path).iter_batches(_ROWS, columns=["key", tap]):
            chosen = batch.filter(pc.is_in(batch["key"], wanted))
            if chosen.num_rows:
                found += chosen["key"].to_pylist()
                blocks.append(np.stack(chosen[tap].to_numpy(zero_copy_only=False)).astype(np.float32))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise EmbeddingError("the file is damaged", where=path, found=str(error).splitlines()[0], fix=_FIX) from error
    values = np.concatenate(blocks) if blocks else np.zeros((0, 0), np.float32)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise EmbeddingError(f"tap '{tap}' has values that are not finite", where=path, found=bad, fix=_FIX)
    return np.asarray(found, dtype=object), values


def read_splits(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read keys and splits alone: (n,) object strings each, sorted by key.

    Raises:
        EmbeddingError: the file is missing or damaged.
    """
    table = read_table(path, KEYS_SCHEMA, EmbeddingError, _FIX, columns=["key", "split"], exact=False)
    keys, splits = (np.asarray(table[name].to_pylist(), dtype=object) for name in ("key", "split"))
    return keys, splits
