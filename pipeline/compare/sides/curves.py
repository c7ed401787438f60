"""Read the training curves of a side from data/summary/curves.csv."""

from __future__ import annotations

import csv
import io
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.compare.sides.names import Side
from pipeline.graph.remotes.revision_outputs import fetch_at
from reprise.artifacts.layout import SUMMARY
from reprise.artifacts.tables.spreadsheet import plain

CURVES = SUMMARY / "curves.csv"
Curve = tuple[tuple[float, float | None], ...]  # (epoch, value); None where the value is no finite number


def read_curves(side: Side, root: Path = Path(), column: str = "loss") -> Mapping[str, Mapping[int, Curve]]:
    """Return run -> seed -> curve of one column; empty where the table is not there or cannot be read."""
    if not side.commit:
        path = root / CURVES
        return curves_in(path.read_bytes(), column) if path.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / CURVES.name
        return curves_in(target.read_bytes(), column) if fetch_at(side.commit, str(CURVES), target, root) else {}


def curves_in(table: bytes, column: str) -> dict[str, dict[int, Curve]]:
    """Parse the table; rows that are not of its form are left out."""
    points: dict[str, dict[int, list[tuple[float, float | None]]]] = {}
    for row in csv.DictReader(io.StringIO(table.decode("utf-8", "replace"))):
        try:
            run, seed, epoch = plain(row["run"]), int(row["seed"]), float(row["epoch"])
            value = float(row[column] or "nan")
        except (KeyError, ValueError, TypeError):
            continue
        if math.isfinite(epoch):
            by_seed = points.setdefault(run, {})
            by_seed.setdefault(seed, []).append((epoch, value if math.isfinite(value) else None))
    return {run: {seed: tuple(each) for seed, each in by_seed.items()} for run, by_seed in points.items()}
