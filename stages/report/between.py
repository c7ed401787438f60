"""The page's section on how alike runs are: one square of figures a metric, from data/between/between.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from stages.report.charts import svg
from stages.report.confusion import names_around
from stages.report.shape import expected_shape, read_object
from stages.report.text import metric_title, number, shown

BETWEEN = Path("data/between/between.json")
MOST_SIDES = 16  # runs and seeds that are drawn; the file holds all
# What is shown at once, in this order; other metrics fold away.
FIRST = ("cka_debiased", "mutual_knn", "disagreement", "stitched")
CELL = 38.0


@dataclass(frozen=True)
class Square:
    """One metric of one probe: figures of (row, column), None where two sides cannot be compared."""

    probe: str
    metric: str
    about: str
    names: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]

    @property
    def title(self) -> str:
        """`similarity.cka` in words."""
        return metric_title(self.metric)


@dataclass(frozen=True)
class Between:
    """Everything that compares sides: squares, figures of whole squares, and protocols (probe, entry, value)."""

    squares: tuple[Square, ...]
    overall: tuple[tuple[str, str, float], ...]
    protocol: tuple[tuple[str, str, str], ...]
    left_out: int  # sides beyond MOST_SIDES


def read_between(path: Path = BETWEEN) -> Between | None:
    """The comparison of all sides; None when there is none.

    Raises:
        ResultError: damaged, or of another shape.
    """
    raw = read_object(path, "between")
    if not raw:
        return None
    with expected_shape(path, "between"):
        names = tuple(str(side["name"]) for side in raw["sides"])
        drawn = names[:MOST_SIDES]
        squares, overall, protocol = [], [], []
        for probe, told in raw["probes"].items():
            overall += [(probe, metric, float(value)) for metric, value in told["overall"].items()]
            protocol += [(probe, entry, str(value)) for entry, value in told["protocol"].items()]
            for metric, rows in told["metrics"].items():
                values = tuple(tuple(_figure(v) for v in row[: len(drawn)]) for row in rows[: len(drawn)])
                if {len(values), *map(len, values)} != {len(drawn)}:
                    raise ValueError(f"{probe}.{metric} is not a square of {len(drawn)} sides")
                squares.append(Square(probe, metric, str(told["about"]), drawn, values))
    order = {metric: i for i, metric in enumerate(FIRST)}
    squares.sort(key=lambda s: (order.get(s.metric, len(order)), s.probe, s.metric))
    return Between(tuple(squares), tuple(overall), tuple(protocol), len(names) - len(drawn))


def _figure(value: Any) -> float | None:
    return None if value is None else float(value)


def sections(between: Between | None) -> dict[str, Any] | None:
    """What the template needs: charts shown at once, further ones, figures, protocol."""
    if between is None or not between.squares:
        return None
    charts = [(s.probe, s.metric, s.title, s.about, square_map(s)) for s in between.squares]
    return {
        "first": [chart for chart in charts if chart[1] in FIRST],
        "further": [chart for chart in charts if chart[1] not in FIRST],
        "overall": [(probe, metric, number(value)) for probe, metric, value in between.overall],
        "protocol": between.protocol,
        "left_out": between.left_out,
    }


def square_map(square: Square) -> Markup:
    """Rows and columns are sides; the figure is the value, the shade its place between 0 (or less) and 1 (or more)."""
    found = [v for row in square.values for v in row if v is not None]
    low, high = min([0.0, *found]), max([1.0, *found])
    left, top, tilted, body = names_around(square.names, CELL)
    for i, row in enumerate(square.values):
        for j, value in enumerate(row):
            body.append(_cell(square, left + CELL * j, top + CELL * i, i, j, value, (low, high)))
    width = left + CELL * len(square.names) + (50 if tilted else 4)
    height = top + CELL * len(square.names) + 6
    return svg(width, height, f"{square.title} between runs", body, "chart heatmap")


def _cell(square: Square, x: float, y: float, i: int, j: int, value: float | None, span: Sequence[float]) -> Markup:
    box = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:g}" height="{:g}" class="{}"{}/>')
    drawn = [box.format(x, y, CELL - 1, CELL - 1, "cell", "")]
    if value is not None:
        part = (value - span[0]) / (span[1] - span[0])
        shade = Markup(' fill-opacity="{:.3f}"').format(0.06 + 0.9 * part)
        drawn.append(box.format(x, y, CELL - 1, CELL - 1, "right", shade))
    words = "–" if value is None else f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
    strong = value is not None and part > 0.6
    drawn.append(
        Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle" class="{}">{}</text>').format(
            x + CELL / 2 - 0.5, y + CELL / 2 + 3.5, "count strong" if strong else "count", words
        )
    )
    title = f"{shown(square.names[i])}, {shown(square.names[j])}: {number(value)}"
    return Markup("<g><title>{}</title>{}</g>").format(title, Markup("").join(drawn))
