"""What a spreadsheet would run is data in our tables, and comes back as it was."""

from __future__ import annotations

import csv
import io

import pytest

from reprise.artifacts.tables.spreadsheet import plain, safe

RUN = [
    "=1+1",
    "+1+1",
    "-1-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    '=HYPERLINK("http://x")',
    "=cmd|' /C calc'!A0",
    "\uff1d1+1",
    "-",
    "-cats",
]
HARMLESS = ["", "cat", "a=b", "1", "-1", "+1.5", "-.5", "1e-3", "'quoted'", "O'Hara", "\u2212x", " =1", "8"]


@pytest.mark.parametrize("text", RUN)
def test_what_would_be_computed_gets_an_apostrophe(text: str) -> None:
    assert safe(text) == f"'{text}"


@pytest.mark.parametrize("cell", [*HARMLESS, -1, -0.5, None, 3, float("-inf")])
def test_everything_else_stays(cell: object) -> None:
    assert safe(cell) is cell


@pytest.mark.parametrize("text", [*RUN, *HARMLESS, "'=1", "''=1", "'-", "''", "'", "'1", "'+1"])
def test_a_table_read_back_has_the_same_texts(text: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([safe(text), "next"])
    (row,) = csv.reader(io.StringIO(file.getvalue()))
    assert [plain(row[0]), row[1]] == [text, "next"]


def test_no_two_texts_become_one() -> None:
    texts = [*RUN, *HARMLESS, *(f"'{text}" for text in RUN), *(f"''{text}" for text in RUN)]
    assert len({safe(text) for text in texts}) == len(set(texts))
