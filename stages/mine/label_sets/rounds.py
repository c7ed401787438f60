"""Rounds: labels mined on the features of a run that learned from earlier labels, and how much they changed.

Legend: n images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reprise.artifacts.labels.label_sets import FILE, clusters_for, read_pseudo_labels
from reprise.artifacts.layout import label_set
from reprise.config.errors import MiningError
from reprise.config.tables import MineRow, Tables
from reprise.measures.cluster_quality import agreement, share_moved


def label_set_before(tables: Tables, row: MineRow) -> str | None:
    """Name the label set of the run on whose embedding `row` is mined; None for features that no run made."""
    source, name = row.on.split("/", 1)
    return next((run.labels for run in tables.trained if source == "embed" and run.name == name), None)


def round_of(tables: Tables, row: MineRow) -> int:
    """Count the pretrainings that a label set rests on: 0 on plain features."""
    rows = {mine.name: mine for mine in tables.mines}
    number, before = 0, label_set_before(tables, row)
    while before is not None and number <= len(rows):  # `check` refuses circles
        number += 1
        before = label_set_before(tables, rows[before]) if before in rows else None  # `none` and `truth` are no rows
    return number


def churn(name: str, seed: int, keys: np.ndarray, clusters: np.ndarray) -> dict[str, Any] | None:
    """Compare a label set with the one before it, on the images that both label.

    Args:
        name: of the label set before; the graph wrote it before the run that learned from it.
        seed: of both.
        keys: (n,) of the new label set.
        clusters: (n,) of the new label set, -1 for no label.

    Returns:
        `before`, `ari`, `share_moved` (no longer where their cluster went) and `images`; None where the label set
        before is empty.

    Raises:
        MiningError: the label set before is not there.
    """
    path = label_set(name, seed) / FILE
    if not path.exists():
        raise MiningError(
            "the label set of the round before is not there",
            where=path,
            found="no file",
            fix="Run `reprise pull`, or `reprise repro mine`.",
        )
    table = read_pseudo_labels(path)
    known = set(table["key"].to_pylist())
    kept = np.array([key in known for key in keys.tolist()])
    earlier = np.full(len(keys), -1, dtype=np.int64)
    if kept.any():
        earlier[kept] = clusters_for(
            table.filter(pc.is_in(table["key"], value_set=pa.array(keys, pa.string()))), keys[kept], path
        )
    both = (earlier >= 0) & (clusters >= 0)
    if not both.any():
        return None
    return {
        "before": name,
        "images": int(both.sum()),
        "ari": agreement(clusters[both], earlier[both])["ari"],
        "share_moved": share_moved(earlier[both], clusters[both]),
    }
