"""The verdict of the validate stage, expectation by expectation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reprise.artifacts import layout
from reprise.artifacts.results import read_json
from stages.report.readers.shape import expected_shape

VALIDATION = layout.VALIDATION / "validation.json"


@dataclass(frozen=True)
class Check:
    """One expectation and its result.

    Args:
        name: the expectation in words, with the table and column that it concerns.
        level: "error" or "warning".
        passed: whether the data meet it.
        found: the value observed and the limits, in words.
        keys: example rows that do not meet it.
    """

    name: str
    level: str
    passed: bool
    found: str
    keys: tuple[str, ...]


def read_checks() -> tuple[Check, ...] | None:
    """Read validation.json; None before the stage ran.

    Raises:
        ResultError: the file is damaged or of another shape.
    """
    if not VALIDATION.exists():
        return None
    raw = read_json(VALIDATION, "Run `dvc repro validate` to write it again.")
    with expected_shape(VALIDATION, "validate"):
        return tuple(_check(row) for row in raw)


def _check(row: dict[str, Any]) -> Check:
    column = f".{row['column']}" if row.get("column") else ""
    return Check(
        name=f"{row['says']} ({row['table']}{column})",
        level=row["severity"],
        passed=row["success"],
        found=_observed(row.get("observed"), row.get("threshold") or {}),
        keys=tuple(map(str, row.get("examples") or ())),
    )


def _observed(observed: Any, threshold: dict[str, Any]) -> str:
    """Put the observed value and its limits into words."""
    if isinstance(observed, dict) and set(observed) == {"rows", "unexpected"}:
        return f"{observed['unexpected']:,} of {observed['rows']:,} rows differ"
    if isinstance(observed, list):
        return f"{len(observed)} columns"
    value = ", ".join(f"{k} {v}" for k, v in observed.items()) if isinstance(observed, dict) else str(observed)
    limits = [
        f"{words} {threshold[key]}"
        for key, words in (("min_value", "at least"), ("max_value", "at most"))
        if threshold.get(key) is not None
    ]
    return f"{value} ({', '.join(limits)})" if limits else value
