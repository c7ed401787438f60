"""Confusion matrices: counted from per-example predictions, bounded in size, drawn as a heat map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stages.report.charts import margin, svg
from stages.report.text import abbreviated, shown

MOST_CLASSES = 20
LETTERS = 14  # of a class name beside its row
OTHER = "other classes"


@dataclass(frozen=True)
class Confusion:
    """Counts of (true class, predicted class).

    `names` are the rows and columns; `counts[i][j]` says how many images of class i were predicted as class j.
    When there are more than `MOST_CLASSES` classes the last row and column gather the rest.
    """

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    folded: int  # classes gathered in the last row and column
    worst: tuple[
        tuple[str, str, int, int], ...
    ]  # (true, predicted, images, images of the true class), most frequent first

    @property
    def total(self) -> int:
        """Images counted."""
        return sum(map(sum, self.counts))


def count_confusion(labels: Sequence[str], predicted: Sequence[str], order: Sequence[str]) -> Confusion:
    """Count predictions; the most frequent classes keep a row of their own.

    Args:
        labels: (n,) true classes. predicted: (n,) predicted classes.
        order: in which order classes are shown; classes that it lacks follow, sorted.
    """
    pairs = Counter(zip(labels, predicted, strict=True))
    images = Counter(labels)
    seen = set(labels) | set(predicted)
    known = [name for name in dict.fromkeys(order) if name in seen]
    everything = known + sorted(seen - set(known))
    kept = everything
    if len(everything) > MOST_CLASSES:
        frequent = set(sorted(everything, key=lambda c: (-images[c], c))[:MOST_CLASSES])
        kept = [name for name in everything if name in frequent]
    names = kept + ([OTHER] if len(kept) < len(everything) else [])
    place = {name: index for index, name in enumerate(kept)}
    counts = [[0] * len(names) for _ in names]
    for (true, guess), count in pairs.items():
        counts[place.get(true, len(kept))][place.get(guess, len(kept))] += count
    wrong = sorted(((t, p, c) for (t, p), c in pairs.items() if t != p), key=lambda w: (-w[2], w[0], w[1]))
    worst = tuple((t, p, c, images[t]) for t, p, c in wrong[:3])
    return Confusion(tuple(names), tuple(map(tuple, counts)), len(everything) - len(kept), worst)


def heatmap(confusion: Confusion, label: str) -> Markup:
    """Rows are true classes, columns predicted ones; shade is the share of the row, the figure the count."""
    size = len(confusion.names)
    cell = 30.0 if size <= 12 else 25.0
    left, top, tilted, body = names_around(confusion.names, cell)
    for i, row in enumerate(confusion.counts):
        for j, count in enumerate(row):
            drawn = _cell(left + cell * j, top + cell * i, cell, count, count / (sum(row) or 1), right=i == j)
            if count:
                pair = f"true {shown(confusion.names[i])}, predicted {shown(confusion.names[j])}"
                drawn = Markup("<g><title>{}: {:,} of {:,}</title>{}</g>").format(pair, count, sum(row), drawn)
            body.append(drawn)
    width = left + cell * size + (50 if tilted else 4)
    return svg(width, top + cell * size + 6, label, body, "chart heatmap")


def names_around(names: Sequence[str], cell: float) -> tuple[float, float, bool, list[Markup]]:
    """Names at the left and on top of a square of cells: where the cells begin (x, y), whether names tilt, drawing."""
    left = margin(names, LETTERS)
    tilted = max((len(abbreviated(name, LETTERS)) for name in names), default=0) > 3
    top = left * 0.9 if tilted else 24.0
    body = []
    for index, name in enumerate(names):
        middle = cell * (index + 0.5)
        full = Markup("<title>{}</title>").format(shown(name))
        body.append(
            Markup('<text x="{:.1f}" y="{:.1f}" class="name" text-anchor="end">{}{}</text>').format(
                left - 8, top + middle + 4, abbreviated(name, LETTERS), full
            )
        )
        x, y = left + middle + (4 if tilted else 0), top - 8
        turn = (
            Markup(' transform="rotate(-60 {:.1f} {:.1f})"').format(x, y) if tilted else Markup(' text-anchor="middle"')
        )
        body.append(
            Markup('<text x="{:.1f}" y="{:.1f}" class="name"{}>{}{}</text>').format(
                x, y, turn, abbreviated(name, LETTERS), full
            )
        )
    return left, top, tilted, body


def _cell(x: float, y: float, size: float, count: int, part: float, right: bool) -> Markup:
    box = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:g}" height="{:g}" class="{}"{}/>')
    drawn = [box.format(x, y, size - 1, size - 1, "cell", "")]
    if count:
        shade = Markup(' fill-opacity="{:.3f}"').format(0.12 + 0.88 * part)
        drawn.append(box.format(x, y, size - 1, size - 1, "right" if right else "wrong", shade))
        drawn.append(
            Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle" class="{}">{}</text>').format(
                x + size / 2 - 0.5, y + size / 2 + 3.5, "count strong" if part > 0.6 else "count", str(count)
            )
        )
    return Markup("").join(drawn)
