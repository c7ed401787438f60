"""Which images were answered right under a shift: the tables of the probes in data/probe/_shifts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from reprise.artifacts.layout import PROBES_ON_SHIFTS
from reprise.artifacts.tables.parquet import read_table
from reprise.config.errors import ResultError
from stages.report.readers.runs import Run

ANSWERS = pa.schema(
    [
        pa.field("set", pa.string(), nullable=False),
        pa.field("shift", pa.string(), nullable=False),
        pa.field("severity", pa.int8()),
        pa.field("key", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("correct", pa.bool_(), nullable=False),
        pa.field("clean", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class ShiftedSet:
    """The answers of one probe on one set of shifted images, by one run.

    Args:
        name: of the set.
        shift: the corruption or source.
        severity: of a corruption; None for images from elsewhere.
        correct: (seeds, n) booleans.
        clean: (seeds, n) booleans of the unchanged images; None for images from elsewhere.
        groups: (n,) integers; None where images come in no groups.
    """

    name: str
    shift: str
    severity: int | None
    correct: np.ndarray
    clean: np.ndarray | None
    groups: np.ndarray | None


@dataclass(frozen=True)
class ShiftedAnswers:
    """The answers of one probe by one run, by set, in the order of params.yaml."""

    probe: str
    run: str
    sets: tuple[ShiftedSet, ...]


def read_shifted(runs: Sequence[Run], folder: Path = PROBES_ON_SHIFTS) -> tuple[ShiftedAnswers, ...]:
    """Read the tables of all runs, for their seeds.

    Raises:
        ResultError: a table is damaged, or the seeds of a run answered for different images.
    """
    found = []
    for probe in sorted({file.stem for file in folder.glob("*/*/*/*.parquet")}):
        for run in runs:
            tables = [
                read_table(file, ANSWERS, ResultError, "Run `dvc repro probe_shifts` to write it again.", exact=False)
                for seed in run.seeds
                for file in sorted(folder.glob(f"*/{run.name}/{seed.seed}/{probe}.parquet"))
            ]
            if tables and all(table.num_rows for table in tables):
                found.append(ShiftedAnswers(probe, run.name, _sets(tables, folder)))
    return tuple(found)


def _sets(tables: Sequence[pa.Table], folder: Path) -> tuple[ShiftedSet, ...]:
    first = tables[0]
    same = ["set", "key", "group"]
    if any(not table.select(same).equals(first.select(same)) for table in tables):
        raise ResultError(
            "the seeds of a run answered for different images",
            where=folder,
            found=f"{[table.num_rows for table in tables]} answers",
            fix="Run `dvc repro probe_shifts` to write them again.",
        )
    names, at = np.unique(np.asarray(first["set"].to_pylist(), dtype=object).astype(str), return_index=True)
    order = np.argsort(at)
    starts = [*at[order].tolist(), first.num_rows]
    sets = []
    for name, start, stop in zip(names[order], starts, starts[1:], strict=False):
        part = [table.slice(start, stop - start) for table in tables]
        groups = part[0]["group"].to_pylist()
        paired = part[0]["clean"].null_count == 0
        sets.append(
            ShiftedSet(
                str(name),
                part[0]["shift"][0].as_py(),
                part[0]["severity"][0].as_py(),
                np.array([table["correct"].to_pylist() for table in part]),
                np.array([table["clean"].to_pylist() for table in part]) if paired else None,
                None if None in groups else np.unique(groups, return_inverse=True)[1],
            )
        )
    return tuple(sets)
