"""A table of figures as shaded cells: rows and columns with names of their own."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from stages.report.drawing.charts import margin, svg
from stages.report.drawing.matrix import LETTERS, cell_text, empty_cell, shade
from stages.report.text import abbreviate, one_line

CELL = 38.0
_TILT = 60  # degrees, of the names on top
_NAME = Markup('<text x="{:.1f}" y="{:.1f}" class="name"{}>{}<title>{}</title></text>')
_END = Markup(' text-anchor="end"')


def heat_table(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], title: str
) -> Markup:
    """Draw a cell for each row and column with its figure: the nearer it is to 1, the darker; 0 and below is unshaded.

    Args:
        rows, columns: their names.
        values: a sequence of figures for each row; None where there is no figure.
        title: what the drawing shows, for those who do not see it.
    """
    left, top = margin(rows, LETTERS), margin(columns, LETTERS) * 0.9
    body = []
    for j, name in enumerate(columns):
        x, y = left + CELL * (j + 0.5) + 4, top - 8
        turned = Markup(' transform="rotate(-{} {:.1f} {:.1f})"').format(_TILT, x, y)
        body.append(_NAME.format(x, y, turned, abbreviate(name, LETTERS), one_line(name)))
    for i, (name, figures) in enumerate(zip(rows, values, strict=True)):
        y = top + CELL * i
        body.append(_NAME.format(left - 8, y + CELL / 2 + 4, _END, abbreviate(name, LETTERS), one_line(name)))
        for j, value in enumerate(figures):
            pair = f"{one_line(name)}, {one_line(columns[j])}: {'–' if value is None else decimals(value, 3)}"
            body.append(Markup("<g><title>{}</title>{}</g>").format(pair, _cell(left + CELL * j, y, value)))
    return svg(left + CELL * len(columns) + 50, top + CELL * len(rows) + 6, title, body, "chart heatmap")


def _cell(x: float, y: float, value: float | None) -> Markup:
    drawn = [empty_cell(x, y, CELL)]
    part = 0.0 if value is None else min(1.0, max(0.0, value))
    if part > 0:
        drawn.append(shade(x, y, CELL, "right", 0.06 + 0.9 * part))
    drawn.append(cell_text(x, y, CELL, "–" if value is None else decimals(value, 2), strong=part > 0.6))
    return Markup("").join(drawn)


def decimals(value: float, count: int) -> str:
    """Write a figure with so many decimals, a true minus, and no minus before zero."""
    words = f"{value:.{count}f}"
    return words.replace("-", "−") if float(words) else words.lstrip("-")
