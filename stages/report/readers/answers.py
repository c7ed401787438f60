"""Which images each run and seed answered right, for probes that classify: what a paired test needs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from reprise.artifacts.layout import PROBES
from reprise.artifacts.results import read_predictions
from stages.report.readers.runs import Run


@dataclass(frozen=True)
class Answers:
    """The answers of one probe, image by image, in one order for all runs.

    Args:
        correct: run -> seed -> (n,) booleans; runs that answered for other images than the first run are left out.
        groups: (n,) a number for each group of images; None where images come in no groups.
    """

    correct: dict[str, dict[int, np.ndarray]]
    groups: np.ndarray | None


def read_answers(runs: Sequence[Run], probes: Collection[str]) -> dict[str, Answers]:
    """Read the predictions of these probes; a probe without any is left out.

    Raises:
        ResultError: a file is damaged.
    """
    found = {probe: _answers(runs, probe) for probe in sorted(set(probes))}
    return {probe: answers for probe, answers in found.items() if answers is not None}


def _answers(runs: Sequence[Run], probe: str) -> Answers | None:
    keys: list[str] | None = None
    groups: np.ndarray | None = None
    correct: dict[str, dict[int, np.ndarray]] = {}
    for run in runs:
        for seed in run.seeds:
            path = next(
                iter(sorted((PROBES / run.name / str(seed.seed)).glob(f"*/*/predictions-{probe}.parquet"))), None
            )
            if path is None:
                continue
            table = read_predictions(path)
            if keys is None:
                keys = table["key"].to_pylist()
                if table.num_rows and table["group"].null_count == 0:
                    groups = np.unique(np.asarray(table["group"].to_pylist()).astype(str), return_inverse=True)[1]
            if table["key"].to_pylist() == keys:
                correct.setdefault(run.name, {})[seed.seed] = np.asarray(table["correct"].to_pylist(), dtype=bool)
    return Answers(correct, groups) if correct else None
