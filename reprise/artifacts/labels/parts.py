"""Parts: where in an image the pattern of a label set was found. They lie beside the pseudo-labels.

An image may hold several patterns, or none. Boxes are shares of the square that the backbone saw, from the top left.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from reprise.artifacts.tables.parquet import read_table, write_table
from reprise.config.errors import PseudoLabelError

FILE = "parts.parquet"
EDGES = ("top", "left", "bottom", "right")
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("pattern", pa.int32(), nullable=False),  # the cluster of the images in which it is the strongest
        pa.field("presence", pa.float32(), nullable=False),  # in [0, 1]; the miner states its meaning
        *(pa.field(edge, pa.float32(), nullable=False) for edge in EDGES),
    ]
)
_FIX = "Run `dvc repro mine` to write it again."


def write_parts(path: str | Path, table: pa.Table) -> None:
    """Write rows sorted by key and pattern."""
    write_table(path, table.select(SCHEMA.names).cast(SCHEMA).sort_by([("key", "ascending"), ("pattern", "ascending")]))


def read_parts(path: str | Path) -> pa.Table:
    """Read a file of parts.

    Raises:
        PseudoLabelError: the file is missing, damaged or of another schema.
    """
    return read_table(path, SCHEMA, PseudoLabelError, _FIX)
