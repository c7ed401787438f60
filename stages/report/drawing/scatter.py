"""The scatter plot of the embedding map as SVG.

Each class has a colour and a shape, so that nobody needs to tell classes apart by colour alone. The plot is complete
on paper and without JavaScript; `templates/page.js` adds the thumbnail under the pointer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stages.report.drawing.charts import COLOURS, pad, place, svg

SHAPES = 4
MARK_COLOURS = 12  # more than those of charts, so that a dozen classes differ in colour, too
MOST_CLASSES = COLOURS * SHAPES - 2  # of their own mark; less frequent ones share one grey dot
WIDTH, HEIGHT, MARGIN = 460.0, 400.0, 14.0


@dataclass(frozen=True)
class Marks:
    """The mark of each class: an index below `MOST_CLASSES` gives colour and shape, and -1 is grey.

    Args:
        names: classes with a mark of their own, in the order of the legend.
        others: number of classes without one.
    """

    names: tuple[str, ...]
    others: int

    def of(self, name: str | None) -> int:
        """Find the mark of a class; -1 for None and for classes without a mark of their own."""
        return self.names.index(name) if name in self.names else -1


def choose_marks(labels: Sequence[str | None], order: Sequence[str]) -> Marks:
    """Give marks to the most frequent classes, in the given order; classes that it lacks follow, sorted."""
    counts = Counter(label for label in labels if label is not None)
    known = [name for name in dict.fromkeys(order) if name in counts]
    everything = known + sorted(counts.keys() - set(known))
    frequent = set(sorted(everything, key=lambda c: (-counts[c], c))[:MOST_CLASSES])
    names = tuple(name for name in everything if name in frequent)
    return Marks(names, len(everything) - len(names))


def mark(index: int, x: float, y: float, extra: str = "") -> Markup:
    """Draw one mark, about 7 units wide: circle, square, triangle or diamond by index // 8, colour by index % 12."""
    classes = f"m c{index % MARK_COLOURS}" if index >= 0 else "m other"
    shape = index // COLOURS % SHAPES if index >= 0 else 0
    if shape == 0:
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.4" class="{}"{}/>').format(x, y, classes, extra)
    if shape == 1:
        return Markup('<rect x="{:.1f}" y="{:.1f}" width="6" height="6" class="{}"{}/>').format(
            x - 3, y - 3, classes, extra
        )
    outline = "l4 7h-8z" if shape == 2 else "l4 4l-4 4l-4-4z"
    return Markup('<path d="M{:.1f} {:.1f}{}" class="{}"{}/>').format(x, y - 4, outline, classes, extra)


def scatter(xs: Sequence[float], ys: Sequence[float], marks: Sequence[int], items: Sequence[int], label: str) -> Markup:
    """Draw the map of one run.

    Args:
        xs, ys: (n,) coordinates; points that are not finite are left out.
        marks: (n,) marks from `Marks.of`.
        items: (n,) index of each image in the page's list, for the thumbnail.
        label: a name for screen readers.
    """
    points = [p for p in zip(xs, ys, marks, items, strict=True) if math.isfinite(p[0]) and math.isfinite(p[1])]
    if not points:
        return svg(WIDTH, HEIGHT, f"{label}: no points", [], "chart map")
    x_domain = pad(min(p[0] for p in points), max(p[0] for p in points), 0.02)
    y_domain = pad(min(p[1] for p in points), max(p[1] for p in points), 0.02)
    body = [
        mark(
            index,
            place(x, x_domain, (MARGIN, WIDTH - MARGIN)),
            place(y, y_domain, (HEIGHT - MARGIN, MARGIN)),
            Markup(' data-m="{}" data-i="{}"').format(index, item),
        )
        for x, y, index, item in points
    ]
    return svg(WIDTH, HEIGHT, label, body, "chart map")


def legend_mark(index: int) -> Markup:
    """Draw a mark alone, for the legend."""
    return Markup('<svg class="key" viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">{}</svg>').format(
        mark(index, 6, 6)
    )
