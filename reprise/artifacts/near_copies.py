"""The table of near-copies: a row for each pair of images that show the same picture in other pixels.

`done` says what became of the pair; the paths are those of the quarantine's kind, since one of the two may be there.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from reprise.artifacts.layout import NEAR_COPIES
from reprise.artifacts.tables.parquet import read_table, write_table
from reprise.config.errors import ManifestError

TOGETHER = "kept_together"  # in one split, because they are copies
APART = "in_two_splits"
REFUSED = "one_refused"  # or both, as copies of a third
NOTHING = "nothing"  # they are in one split by chance or by the source

NEAR_COPIES_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # the lower of the two
        pa.field("other_key", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("other_path", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=True),  # of a refused image that which the source gives, or null
        pa.field("other_split", pa.string(), nullable=True),
        pa.field("distance", pa.float64(), nullable=False),  # 0 the same but for contrast, about 1 for unlike pictures
        pa.field("labels_differ", pa.bool_(), nullable=False),
        pa.field("done", pa.string(), nullable=False),
    ]
)


def write_near_copies(path: str | Path, table: pa.Table) -> None:
    """Write the pairs, sorted by their keys."""
    write_table(path, table.cast(NEAR_COPIES_SCHEMA).sort_by([("key", "ascending"), ("other_key", "ascending")]))


def read_near_copies(path: str | Path = NEAR_COPIES) -> pa.Table:
    """Read and check a table of near-copies.

    Raises:
        ManifestError: missing, damaged, or of another schema.
    """
    return read_table(path, NEAR_COPIES_SCHEMA, ManifestError, "Run `dvc repro ingest` to write it again.")
