"""The comparison of representations: how alike the features of two runs are, one square of figures a metric.

Checked by: tests/stages/report/sections/test_representations.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from stages.report.drawing.charts import svg
from stages.report.drawing.matrix import cell_text, empty_cell, names_around, shade
from stages.report.readers.representations import Representations, Square
from stages.report.section_registry import Absent
from stages.report.text import metric_title, number, one_line

TITLE = "Comparison of representations"
ORDER = 90
READS = ("representations",)

MOST_ENCODERS = 16  # runs and seeds that are drawn; the file holds all
FIRST = ("cka_debiased", "mutual_knn", "disagreement", "stitched")  # at once, in this order; the others fold away
CELL = 38.0


def show(representations: Representations | None) -> dict[str, Any] | Absent:
    """Draw a square for every metric."""
    if representations is None or not representations.squares:
        notes = {value for _, entry, value in representations.protocol if entry == "note"} if representations else ()
        reasons = sorted(one_line(note.removeprefix("not run: "), 200) for note in notes)
        missing = "the stage has not run, or params.yaml names no probe for it"
        return Absent(f"The representations were not compared: {'; '.join(reasons) or missing}.")
    squares = sort_squares(representations.squares)
    charts = [
        (square.probe, square.metric, metric_title(square.metric), square.caption, square_map(square))
        for square in squares
    ]
    return {
        "first": [chart for chart in charts if chart[1] in FIRST],
        "further": [chart for chart in charts if chart[1] not in FIRST],
        "overall": [(probe, metric, number(value)) for probe, metric, value in representations.overall],
        "protocol": representations.protocol,
        "left_out": max(0, len(squares[0].names) - MOST_ENCODERS),
    }


def sort_squares(squares: Sequence[Square]) -> list[Square]:
    """Sort squares: the metrics of `FIRST` in their order, then by probe and metric."""
    place = {metric: i for i, metric in enumerate(FIRST)}
    return sorted(squares, key=lambda s: (place.get(s.metric, len(place)), s.probe, s.metric))


def square_map(square: Square) -> Markup:
    """Draw encoders as rows and columns; the shade is the value's place between 0 (or less) and 1 (or more)."""
    names = square.names[:MOST_ENCODERS]
    values = [row[: len(names)] for row in square.values[: len(names)]]
    known = [v for row in values for v in row if v is not None]
    low, high = min([0.0, *known]), max([1.0, *known])
    left, top, tilted, body = names_around(names, CELL)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            cell = _cell(left + CELL * j, top + CELL * i, value, (low, high))
            pair = f"{one_line(names[i])}, {one_line(names[j])}: {number(value)}"
            body.append(Markup("<g><title>{}</title>{}</g>").format(pair, cell))
    width = left + CELL * len(names) + (50 if tilted else 4)
    height = top + CELL * len(names) + 6
    return svg(width, height, f"{metric_title(square.metric)} of all pairs of runs", body, "chart heatmap")


def _cell(x: float, y: float, value: float | None, span: tuple[float, float]) -> Markup:
    drawn = [empty_cell(x, y, CELL)]
    part = 0.0 if value is None else (value - span[0]) / (span[1] - span[0])
    if value is not None:
        drawn.append(shade(x, y, CELL, "right", 0.06 + 0.9 * part))
    words = "–" if value is None else f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
    drawn.append(cell_text(x, y, CELL, words, strong=part > 0.6))
    return Markup("").join(drawn)
