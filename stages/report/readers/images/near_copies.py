"""Near-copies: the table that ingest wrote, and what it says about them in dataset.json.

A missing artifact gives None; a damaged one raises the error of its format. The table stays a table: a data set of many
bursts has more pairs than Python objects for them should be made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from reprise.artifacts.layout import DATASET, NEAR_COPIES
from reprise.artifacts.near_copies import APART, REFUSED, read_near_copies
from stages.report.readers.shape import expected_shape, read_object

_BLOCK = 1000  # pairs made into objects at a time


@dataclass(frozen=True)
class CopyPair:
    """Two images that show the same picture.

    Args:
        keys: of both images.
        splits: of both images.
        distance: 0 for the same picture but for contrast.
        labels_differ: whether both have a label, and not the same.
        done: what became of them, a code of reprise/artifacts/near_copies.py.
    """

    keys: tuple[str, str]
    splits: tuple[str | None, str | None]
    distance: float
    labels_differ: bool
    done: str


@dataclass(frozen=True)
class NearCopies:
    """All pairs, and the sentences of ingest.

    Args:
        table: a row for each pair.
        said: the sentences.
        looked_for: whether ingest looks for near-copies of samples of this kind.
    """

    table: pa.Table
    said: tuple[str, ...]
    looked_for: bool = True

    def counts(self) -> dict[str, int]:
        """Count the pairs by what became of them, in the order of the codes."""
        counted = {row["values"]: row["counts"] for row in self.table["done"].value_counts().to_pylist()}
        return dict(sorted(counted.items()))

    def by_interest(self) -> Iterator[CopyPair]:
        """Yield pairs without a refused image: in two splits first, then other labels, then the least alike."""
        order = {"apart": "descending", "labels_differ": "descending", "distance": "descending"}
        kept = self.table.filter(pc.not_equal(self.table["done"], REFUSED))
        kept = kept.append_column("apart", pc.equal(kept["done"], APART))
        kept = kept.sort_by([*order.items(), ("key", "ascending"), ("other_key", "ascending")])
        for start in range(0, kept.num_rows, _BLOCK):
            for row in kept.slice(start, _BLOCK).to_pylist():
                yield CopyPair(
                    (row["key"], row["other_key"]),
                    (row["split"], row["other_split"]),
                    row["distance"],
                    row["labels_differ"],
                    row["done"],
                )

    def among(self, keys: Collection[str]) -> set[frozenset[str]]:
        """Return the pairs both of whose images are among the keys."""
        wanted = pa.array(sorted(keys), pa.string())
        both = pc.and_(pc.is_in(self.table["key"], wanted), pc.is_in(self.table["other_key"], wanted))
        rows = self.table.filter(both)
        return {frozenset(p) for p in zip(rows["key"].to_pylist(), rows["other_key"].to_pylist(), strict=True)}


def read_copies() -> NearCopies | None:
    """Read the table of near-copies, and the sentences about it.

    Raises:
        ManifestError, ResultError: a file is damaged.
    """
    if not NEAR_COPIES.exists():
        return None
    table = read_near_copies()
    if not DATASET.exists():
        return NearCopies(table, ())
    raw = read_object(DATASET, "ingest")
    with expected_shape(DATASET, "ingest"):
        card = raw.get("near_copies") or {}
        said = tuple(str(sentence) for sentence in card.get("said") or ())
        return NearCopies(table, said, bool(card.get("looked_for", True)))
