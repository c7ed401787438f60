"""Pairs: one row for two training images that a miner holds for the same thing. The second kind of label set.

Clusters say which group an image is in; pairs say which two belong together, and need not close into groups: a~b and
b~c do not make a~c. A label set of pairs lies beside its pseudo-labels, in the same folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reprise.artifacts.tables import read_table, write_table
from reprise.config.errors import PseudoLabelError

FILE = "pairs.parquet"
SCHEMA = pa.schema(
    [
        pa.field("first", pa.string(), nullable=False),  # key, before `second` in the alphabet
        pa.field("second", pa.string(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),  # in [0, 1]: how sure the miner is, which says how
        pa.field("kind", pa.string(), nullable=False),  # mutual, matched, inter, intra, closed
        pa.field("hops", pa.int32(), nullable=False),  # edges between the two: 1 is direct
    ]
)
_FIX = "Run `dvc repro mine` to write it again."


def write_pairs(path: str | Path, table: pa.Table) -> None:
    """Write rows sorted by both keys, each pair once, whichever way round it came.

    Raises:
        PseudoLabelError: an image paired with itself, a repeated pair, a weight outside of [0, 1].
    """
    table = table.select(SCHEMA.names).cast(SCHEMA)
    swapped = pc.greater(table["first"], table["second"])
    first = pc.if_else(swapped, table["second"], table["first"])
    second = pc.if_else(swapped, table["first"], table["second"])
    table = table.set_column(0, SCHEMA.field("first"), first).set_column(1, SCHEMA.field("second"), second)
    table = table.sort_by([("first", "ascending"), ("second", "ascending")])
    _check(table, path)
    write_table(path, table)


def read_pairs(path: str | Path) -> pa.Table:
    """Read and check a file of pairs.

    Raises:
        PseudoLabelError: missing, damaged, of another schema, or not as `write_pairs` leaves it.
    """
    table = read_table(path, SCHEMA, PseudoLabelError, _FIX)
    _check(table, path)
    return table


def rows_of(table: pa.Table, keys: np.ndarray, path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the pairs' images among `keys`, joined by key.

    Args:
        keys: (n,) unique strings, in any order.

    Returns:
        pairs (p, 2) int64 and weights (p,) float32.

    Raises:
        PseudoLabelError: the pairs name images that are not among `keys` (another data set's pairs).
    """
    position = {key: row for row, key in enumerate(keys.tolist())}
    names = [*table["first"].to_pylist(), *table["second"].to_pylist()]
    foreign = {name for name in names if name not in position}
    if foreign:
        raise PseudoLabelError(
            "the pairs belong to other images",
            where=path,
            found=f"{len(foreign)} unknown keys, such as {min(foreign)}",
            fix=_FIX,
        )
    rows = np.array([position[name] for name in names], dtype=np.int64).reshape(2, -1).T
    return rows, table["weight"].to_numpy().astype(np.float32)


def _check(table: pa.Table, path: str | Path) -> None:
    first, second, weight = (table[name] for name in ("first", "second", "weight"))
    if pc.any(pc.greater_equal(first, second)).as_py():
        raise PseudoLabelError(
            "the two images of a pair differ and stand in alphabetical order", where=path, found="others", fix=_FIX
        )
    distinct = table.group_by(["first", "second"]).aggregate([]).num_rows
    if distinct != table.num_rows:
        raise PseudoLabelError(
            "each pair stands there once", where=path, found=f"{table.num_rows - distinct} repeated", fix=_FIX
        )
    values = weight.to_numpy()
    if len(values) and not ((values >= 0) & (values <= 1)).all():
        raise PseudoLabelError("weights lie between 0 and 1", where=path, found="others", fix=_FIX)
