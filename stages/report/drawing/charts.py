"""Charts as inline SVG: pure functions from numbers to markup, without a plotting library.

Colours are classes (`c0` to `c7`, Okabe and Ito's palette, safe for colour-blind readers) that the page's style
sheet fills, so one chart serves light, dark and paper. Every text is escaped by `Markup.format`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stages.report.text import abbreviate, number, one_line

COLOURS = 8
LETTERS = 22  # of a name beside its row
Numbers = Sequence[float]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Args:
        name: the row's name.
        value: the figure, a mean over seeds where there are several.
        low, high: both ends of the interval; None where there is none.
        seeds: the value of every seed.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Args:
        name: its name.
        x: (n,) positions.
        y: (n,) values; None leaves a gap.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Choose round numbers in [low, high] for an axis.

    They are the multiples of the smallest of 1, 2 or 5 times a power of ten that gives at most `wanted` + 1 of them.
    """
    if not high > low:
        return [low]
    # `power` is above a tenth of the mean gap, so ten powers are a wide enough step; twenty are for rounding.
    power = 10.0 ** math.floor(math.log10((high - low) / wanted))
    for step in (s * power for s in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)  # 1e-9: rounding of 0.3 / 0.1
        if last - first <= wanted:
            break
    return [round(i * step, 12) for i in range(first, last + 1)] or [low]


def tick_texts(values: Sequence[float]) -> list[str]:
    """Write the values with the decimals that tell neighbours apart; in powers of ten when they are tiny or huge."""
    step = min((abs(b - a) for a, b in itertools.pairwise(values)), default=0.0)
    largest = max((abs(v) for v in values), default=0.0)
    if not step:
        return [number(v) for v in values]
    if largest >= 1e7 or largest < 1e-3:
        return ["0" if v == 0 else f"{v:.1e}".replace("e-0", "e-").replace("e+0", "e") for v in values]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{v:,.{decimals}f}".replace("-", "−") for v in values]


def pad(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """Widen a range by `share` of its length at both ends; a range of one value becomes a range around it."""
    if high > low:
        gap = (high - low) * share
        return low - gap, high + gap
    gap = abs(low) * 0.1 or 1.0
    return low - gap, high + gap


def place(value: float, domain: tuple[float, float], span: tuple[float, float]) -> float:
    """Map `value` from `domain` to `span`, the drawing's units, linearly."""
    return span[0] + (value - domain[0]) / (domain[1] - domain[0]) * (span[1] - span[0])


def svg(width: float, height: float, label: str, body: Sequence[Markup], classes: str = "chart") -> Markup:
    """Wrap drawings in an SVG picture, as wide as its column but never wider than drawn.

    Args:
        width, height: the size in the drawing's units.
        label: a name for screen readers.
        body: the drawings.
        classes: classes of the style sheet.
    """
    return Markup(
        '<svg class="{}" role="img" aria-label="{}" viewBox="0 0 {:g} {:g}" width="{:g}" height="{:g}">{}</svg>'
    ).format(classes, one_line(label, 300), width, height, width, height, Markup("").join(body))


def margin(names: Sequence[str], letters: int = LETTERS) -> float:
    """Measure the width that the longest of the names takes when at most `letters` of it are written."""
    return 20.0 + 7.6 * max((len(abbreviate(name, letters)) for name in names), default=0)


def _text(x: float, y: float, words: str, classes: str = "", anchor: str = "start") -> Markup:
    tag = Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>')
    return tag.format(x, y, classes, anchor, words)


def _segment(x1: float, y1: float, x2: float, y2: float, classes: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, classes)


def interval_chart(rows: Sequence[Estimate], label: str) -> Markup:
    """Draw a row for each estimate, largest first: a dot at the value, a bar for its interval, rings for the seeds."""
    rows = sorted(rows, key=lambda r: (-r.value, r.name))
    width, left, right, step, top = 640.0, margin([row.name for row in rows]), 70.0, 30.0, 8.0
    height = top + step * len(rows) + 30
    bounds = [v for r in rows for v in (r.value, r.low, r.high, *r.seeds) if v is not None]
    domain, span = pad(min(bounds), max(bounds)), (left, width - right)
    bottom = top + step * len(rows)
    body = []
    marks = ticks(*domain, wanted=6)
    for tick, words in zip(marks, tick_texts(marks), strict=True):
        x = place(tick, domain, span)
        body += [_segment(x, top, x, bottom, "grid"), _text(x, bottom + 18, words, "tick", "middle")]
    for index, row in enumerate(rows):
        y = top + step * (index + 0.5)
        x = place(row.value, domain, span)
        tip = f"{one_line(row.name)}: {number(row.value)}"
        parts = [_text(left - 12, y + 4, abbreviate(row.name, LETTERS), "name", "end")]
        if row.low is not None and row.high is not None:
            ends = place(row.low, domain, span), place(row.high, domain, span)
            tip += f" [{number(row.low)}, {number(row.high)}]"
            parts.append(_segment(ends[0], y, ends[1], y, "whisker"))
            parts += [_segment(end, y - 5, end, y + 5, "whisker") for end in ends]
        for seed in row.seeds if len(row.seeds) > 1 else ():
            parts.append(
                Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="seed"/>').format(place(seed, domain, span), y)
            )
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5" class="dot"/>').format(x, y))
        parts.append(_text(width - right + 14, y + 4, number(row.value), "value"))
        body.append(Markup("<g><title>{}</title>{}</g>").format(tip, Markup("").join(parts)))
    return svg(width, height, label, body, "chart wide")


def line_chart(lines: Sequence[Line], title: str, x_name: str = "epoch") -> Markup:
    """Draw one quantity over epochs, a line for each seed; values that are not finite leave a gap."""
    width, height, left, right, top, bottom = 220.0, 160.0, 44.0, 10.0, 26.0, 32.0
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in line.y if y is not None and math.isfinite(y)]
    body = [_text(2, 13, abbreviate(title, 34), "title")]
    if not ys:
        return svg(width, height, f"{title}: no values", [*body, _text(left, 90, "no finite values", "tick")])
    x_domain = (min(xs), max(xs)) if max(xs) > min(xs) else pad(min(xs), max(xs))
    y_domain = pad(min(ys), max(ys))
    x_span, y_span = (left, width - right), (height - bottom, top)
    marks = ticks(*y_domain, wanted=4)
    for tick, words in zip(marks, tick_texts(marks), strict=True):
        y = place(tick, y_domain, y_span)
        body += [_segment(left, y, width - right, y, "grid"), _text(left - 6, y + 4, words, "tick", "end")]
    marks = [mark for mark in ticks(*x_domain, wanted=4) if mark.is_integer()]  # there are no half epochs
    for tick, words in zip(marks, tick_texts(marks), strict=True):
        body.append(_text(place(tick, x_domain, x_span), height - bottom + 15, words, "tick", "middle"))
    body.append(_text((x_span[0] + x_span[1]) / 2, height - 4, x_name, "tick", "middle"))
    for index, line in enumerate(lines):
        points = [
            None if y is None or not math.isfinite(y) else (place(x, x_domain, x_span), place(y, y_domain, y_span))
            for x, y in zip(line.x, line.y, strict=True)
        ]
        end = line.y[-1] if line.y else None
        tip = one_line(line.name) + ("" if end is None else f" ends at {number(end)}")
        body.append(
            Markup('<path d="{}" class="line c{}"><title>{}</title></path>').format(path(points), index % COLOURS, tip)
        )
        body += [
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.2" class="c{}"/>').format(x, y, index % COLOURS)
            for x, y in isolated_points(points)
        ]
    last = ", ".join(
        f"{one_line(line.name)} ends at {number(line.y[-1])}" for line in lines if line.y and line.y[-1] is not None
    )
    return svg(width, height, f"{title} over {x_name}s. {last}", body)


def path(points: Sequence[tuple[float, float] | None]) -> str:
    """Write SVG path data through the points; None lifts the pen."""
    words: list[str] = []
    for index, point in enumerate(points):
        if point is None:
            continue
        starts = index == 0 or points[index - 1] is None
        words.append(f"{'M' if starts else 'L'}{point[0]:.1f} {point[1]:.1f}")
    return "".join(words)


def isolated_points(points: Sequence[tuple[float, float] | None]) -> list[tuple[float, float]]:
    """List the points with a gap before and after them, which a path does not show."""
    framed = [None, *points, None]
    return [
        p
        for before, p, after in zip(framed, points, framed[2:], strict=False)
        if p is not None and before is None and after is None
    ]


def bar_chart(rows: Sequence[tuple[str, Sequence[int]]], parts: Sequence[str], label: str) -> Markup:
    """Draw stacked horizontal bars.

    Args:
        rows: (name, counts) of each class, a count for each part.
        parts: names of the parts (train, val, test), one for each colour.
        label: a name for screen readers.
    """
    width, left, right, step, top = 640.0, margin([name for name, _ in rows]), 66.0, 22.0, 4.0
    largest = max((sum(counts) for _, counts in rows), default=0) or 1
    body = []
    for index, (name, counts) in enumerate(rows):
        y, x = top + step * index, left
        tip = ", ".join(f"{part} {count:,}" for part, count in zip(parts, counts, strict=True))
        drawn = [_text(left - 12, y + 15, abbreviate(name, LETTERS), "name", "end")]
        for part, count in enumerate(counts):
            size = count / largest * (width - left - right)
            drawn.append(
                Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="c{}"/>').format(
                    x, y + 4, size, step - 8, part
                )
            )
            x += size
        drawn.append(_text(x + 8, y + 15, f"{sum(counts):,}", "value"))
        body.append(Markup("<g><title>{}: {}</title>{}</g>").format(one_line(name), tip, Markup("").join(drawn)))
    return svg(width, top * 2 + step * len(rows), label, body, "chart wide")


def size_chart(sizes: Sequence[int], label: str, limit_line: tuple[float, str] | None = None) -> Markup:
    """Draw cluster sizes, largest first, as a filled staircase.

    Args:
        sizes: images in each cluster.
        label: a name for screen readers.
        limit_line: a size at which a dashed line is drawn, and its words.
    """
    width, height, left, right, top, bottom = 420.0, 150.0, 48.0, 12.0, 10.0, 34.0
    ordered = sorted(sizes, reverse=True)
    top_value = max([*ordered, limit_line[0] if limit_line else 0, 1])
    domain, span = (0.0, top_value * 1.05), (height - bottom, top)
    body = []
    marks = ticks(*domain, wanted=4)
    for tick, words in zip(marks, tick_texts(marks), strict=True):
        y = place(tick, domain, span)
        body += [_segment(left, y, width - right, y, "grid"), _text(left - 6, y + 4, words, "tick", "end")]
    step = (width - left - right) / max(1, len(ordered))
    outline = "".join(f"V{place(size, domain, span):.1f}H{left + step * (i + 1):.1f}" for i, size in enumerate(ordered))
    body.append(Markup('<path d="M{:.1f} {:.1f}{}V{:.1f}Z" class="area c0"/>').format(left, span[0], outline, span[0]))
    if limit_line:
        y = place(limit_line[0], domain, span)
        body += [
            _segment(left, y, width - right, y, "limit"),
            _text(width - right, y - 4, limit_line[1], "tick over", "end"),
        ]
    body.append(_text((left + width - right) / 2, height - 4, "clusters, largest first", "tick", "middle"))
    return svg(width, height, label, body)
