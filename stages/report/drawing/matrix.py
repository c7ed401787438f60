"""What two square matrices of the page share: names around the cells, and a shaded cell with its figure."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from stages.report.drawing.charts import margin
from stages.report.text import abbreviate, one_line

LETTERS = 14  # of a name beside its row
_BOX = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:g}" height="{:g}" class="{}"{}/>')
_FIGURE = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle" class="{}">{}</text>')


def names_around(names: Sequence[str], cell: float) -> tuple[float, float, bool, list[Markup]]:
    """Write names at the left and on top of a square of cells.

    Args:
        names: one for each row and column.
        cell: side of a cell.

    Returns:
        where the cells begin (x, y), whether the names on top tilt, and the drawing.
    """
    left = margin(names, LETTERS)
    tilted = max((len(abbreviate(name, LETTERS)) for name in names), default=0) > 3
    top = left * 0.9 if tilted else 24.0
    body = []
    for index, name in enumerate(names):
        middle = cell * (index + 0.5)
        full = Markup("<title>{}</title>").format(one_line(name))
        body.append(
            Markup('<text x="{:.1f}" y="{:.1f}" class="name" text-anchor="end">{}{}</text>').format(
                left - 8, top + middle + 4, abbreviate(name, LETTERS), full
            )
        )
        x, y = left + middle + (4 if tilted else 0), top - 8
        turn = (
            Markup(' transform="rotate(-60 {:.1f} {:.1f})"').format(x, y) if tilted else Markup(' text-anchor="middle"')
        )
        body.append(
            Markup('<text x="{:.1f}" y="{:.1f}" class="name"{}>{}{}</text>').format(
                x, y, turn, abbreviate(name, LETTERS), full
            )
        )
    return left, top, tilted, body


def empty_cell(x: float, y: float, size: float) -> Markup:
    """Draw a cell without a shade."""
    return _BOX.format(x, y, size - 1, size - 1, "cell", "")


def shade(x: float, y: float, size: float, colour: str, opacity: float) -> Markup:
    """Draw the shade of a cell.

    Args:
        x, y: the upper left corner.
        size: side of the cell.
        colour: "right" or "wrong", classes of the style sheet.
        opacity: between 0 and 1.
    """
    return _BOX.format(x, y, size - 1, size - 1, colour, Markup(' fill-opacity="{:.3f}"').format(opacity))


def cell_text(x: float, y: float, size: float, words: str, strong: bool) -> Markup:
    """Write the figure of a cell in its middle, in the colour for dark shades if `strong`."""
    return _FIGURE.format(x + size / 2 - 0.5, y + size / 2 + 3.5, "count strong" if strong else "count", words)
