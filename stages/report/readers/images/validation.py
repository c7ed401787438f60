"""The verdict of the validate stage, expectation by expectation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reprise.artifacts import layout
from reprise.artifacts.results import read_json
from reprise.artifacts.verdicts import observed_in_words
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
        found=observed_in_words(row.get("observed"), row.get("threshold") or {}),
        keys=tuple(map(str, row.get("examples") or ())),
    )
