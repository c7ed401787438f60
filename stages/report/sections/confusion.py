"""Confusion matrices: counted from per-example predictions, bounded in size, drawn as heat maps.

Checked by: tests/stages/report/test_charts.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stages.report.drawing.charts import svg
from stages.report.drawing.matrix import cell_text, empty_cell, names_around, shade
from stages.report.readers.images.ingest import Images
from stages.report.readers.runs import Run
from stages.report.section_registry import Absent
from stages.report.text import one_line, share

TITLE = "Confusion"
ORDER = 80
READS = ("images", "runs")

MOST_RUNS = 12
MOST_CLASSES = 20
OTHER = "other classes"


@dataclass(frozen=True)
class Confusion:
    """Counts of (true class, predicted class).

    Args:
        names: the rows and columns. With more than `MOST_CLASSES` classes the last one gathers the rest.
        counts: counts[i][j] images of class i were predicted as class j.
        folded: number of classes gathered in the last row and column.
        worst: (true, predicted, images, images of the true class) of the most frequent mistakes.
    """

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    folded: int
    worst: tuple[tuple[str, str, int, int], ...]

    @property
    def total(self) -> int:
        """Number of images counted."""
        return sum(map(sum, self.counts))


@dataclass(frozen=True)
class ConfusedRun:
    """The confusion matrix of a run: the drawing, the counts, and the most frequent mistakes in words."""

    run: str
    seed: int
    probe: str
    chart: Markup
    counted: Confusion
    worst: tuple[str, ...]


def show(images: Images | None, runs: tuple[Run, ...]) -> dict[str, Any] | Absent:
    """Draw a matrix for each run whose probe left predictions."""
    confusions = confusions_of(runs, images.classes if images else ())
    if not confusions:
        return Absent("There are no predictions to count: without labels nothing is classified.")
    return {"confusions": confusions}


def confusions_of(runs: Sequence[Run], classes: Sequence[str]) -> tuple[ConfusedRun, ...]:
    """Count and draw the predictions of each run that has any, with classes in the order given."""
    drawn = []
    for run in [run for run in runs if run.first.predictions][:MOST_RUNS]:
        assert run.first.predictions is not None
        probe, true, predicted = run.first.predictions[:3]
        counted = count_confusion(true, predicted, classes)
        worst = tuple(
            f"{one_line(t)} taken for {one_line(p)}: {count:,} of {whole:,} ({share(count, whole)})"
            for t, p, count, whole in counted.worst
        )
        chart = heatmap(
            counted, f"Confusion matrix of {run.name}: {counted.total} images, {len(counted.names)} classes"
        )
        drawn.append(ConfusedRun(run.name, run.first.seed, probe, chart, counted, worst))
    return tuple(drawn)


def count_confusion(labels: Sequence[str], predicted: Sequence[str], order: Sequence[str]) -> Confusion:
    """Count predictions; the most frequent classes keep a row of their own.

    Args:
        labels: (n,) true classes.
        predicted: (n,) predicted classes.
        order: class names in the order of the rows; further classes follow, sorted.
    """
    pairs = Counter(zip(labels, predicted, strict=True))
    images = Counter(labels)
    present = set(labels) | set(predicted)
    known = [name for name in dict.fromkeys(order) if name in present]
    everything = known + sorted(present - set(known))
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
    """Draw true classes as rows and predicted ones as columns; the shade is the share of the row."""
    size = len(confusion.names)
    cell = 30.0 if size <= 12 else 25.0
    left, top, tilted, body = names_around(confusion.names, cell)
    for i, row in enumerate(confusion.counts):
        for j, count in enumerate(row):
            drawn = _cell(left + cell * j, top + cell * i, cell, count, count / (sum(row) or 1), right=i == j)
            if count:
                pair = f"true {one_line(confusion.names[i])}, predicted {one_line(confusion.names[j])}"
                drawn = Markup("<g><title>{}: {:,} of {:,}</title>{}</g>").format(pair, count, sum(row), drawn)
            body.append(drawn)
    width = left + cell * size + (50 if tilted else 4)
    return svg(width, top + cell * size + 6, label, body, "chart heatmap")


def _cell(x: float, y: float, size: float, count: int, part: float, right: bool) -> Markup:
    drawn = [empty_cell(x, y, size)]
    if count:
        drawn.append(shade(x, y, size, "right" if right else "wrong", 0.12 + 0.88 * part))
        drawn.append(cell_text(x, y, size, str(count), strong=part > 0.6))
    return Markup("").join(drawn)
