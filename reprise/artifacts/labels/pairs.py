"""Pairs: one row for every two training images that a miner takes for the same thing. The second form of a label set.

A cluster assigns an image to one class; pairs only state which two images belong together, and they are not transitive:
a~b and b~c do not imply a~c. The pairs of a label set lie in the same folder as its pseudo-labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reprise.artifacts.labels.label_sets import digest_of_pairs
from reprise.artifacts.tables.columns import Keys, Texts, places
from reprise.artifacts.tables.parquet import read_table, write_table
from reprise.config.errors import PseudoLabelError, printable
from reprise.storage.work_folder import file_digest

FILE = "pairs.parquet"
SCHEMA = pa.schema(
    [
        pa.field("first", pa.string(), nullable=False),  # key; it sorts before `second`
        pa.field("second", pa.string(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),  # in [0, 1]; each miner states its meaning
        pa.field("kind", pa.string(), nullable=False),  # mutual, matched, inter, intra, closed
        pa.field("hops", pa.int32(), nullable=False),  # edges between the two: 1 is direct
    ]
)
_FIX = "Run `dvc repro mine` to write it again."


def write_pairs(path: str | Path, table: pa.Table) -> None:
    """Write rows sorted by both keys; the order of the two keys of a pair does not matter.

    Raises:
        PseudoLabelError: an image is paired with itself, a pair is repeated, or a weight lies outside [0, 1].
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
        PseudoLabelError: the file is missing, damaged, of another schema, or not in the form that `write_pairs` gives
            it.
    """
    table = read_table(path, SCHEMA, PseudoLabelError, _FIX)
    _check(table, path)
    return table


def read_pairs_of(labels: str | Path) -> pa.Table | None:
    """Read the pairs that belong to a file of pseudo-labels and lie beside it; None where the label set has none.

    Raises:
        PseudoLabelError: the pairs are missing, damaged, or not those that the label set was written with.
    """
    wanted, path = digest_of_pairs(labels), Path(labels).with_name(FILE)
    if wanted is None:
        return None
    table = read_pairs(path)
    if (found := file_digest(path)) != wanted:
        raise PseudoLabelError(
            "the pairs are not those of the label set beside them",
            where=path,
            found=f"digest {found[:12]}..., not {printable(wanted)[:12]}...",
            fix=_FIX,
        )
    return table


def rows_of(table: pa.Table, keys: Keys, path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the pairs' images among `keys`.

    Args:
        table: pairs.
        keys: (n,) unique strings, in any order.
        path: file of the table, for messages.

    Returns:
        pairs (p, 2) int64 and weights (p,) float32.

    Raises:
        PseudoLabelError: the pairs name images that are not among `keys`, so they belong to another data set.
    """
    rows = np.stack([places(Texts(table[name]), keys) for name in ("first", "second")], axis=1)
    if (rows < 0).any():
        foreign = {key for i, name in enumerate(("first", "second")) for key in Texts(table[name])[rows[:, i] < 0]}
        raise PseudoLabelError(
            "the pairs belong to other images",
            where=path,
            found=f"{len(foreign)} unknown keys, such as {min(foreign)}",
            fix=_FIX,
        )
    return rows, table["weight"].to_numpy().astype(np.float32)


def _check(table: pa.Table, path: str | Path) -> None:
    first, second, weight = (table[name] for name in ("first", "second", "weight"))
    if pc.any(pc.greater_equal(first, second)).as_py():
        raise PseudoLabelError(
            "the keys of a pair must differ and be in ascending order", where=path, found="others", fix=_FIX
        )
    distinct = table.group_by(["first", "second"]).aggregate([]).num_rows
    if distinct != table.num_rows:
        raise PseudoLabelError(
            "each pair must be listed once", where=path, found=f"{table.num_rows - distinct} repeated", fix=_FIX
        )
    values = weight.to_numpy()
    if len(values) and not ((values >= 0) & (values <= 1)).all():
        raise PseudoLabelError("weights must lie between 0 and 1", where=path, found="others", fix=_FIX)
