"""Line charts as inline SVG: pure functions from numbers to markup. Colours are classes of the page's style sheet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.compare.pages.document import join, text

COLOURS = 8
_WIDTH, _HEIGHT = 420.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 20.0, 34.0
_EMPTY = "no values that can be drawn"
_LARGEST = 1e300  # the range of larger values overflows
_NARROW = 24.0  # units of the drawing between two numbers of the axis


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: what it shows.
        points: (x, y); a y that is None or no finite number leaves a gap.
        colour: number of its colour.
        dash: number of its pattern.
        bars: (low, high) at each point, or None.
        dots: whether each point has a dot.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    colour: int = 0
    dash: int = 0
    bars: Sequence[tuple[float, float] | None] = ()
    dots: bool = False


def line_chart(
    lines: Sequence[Line], label: str, x_name: str, marks: Sequence[tuple[float, str]] = (), *, whole: bool = True
) -> Markup:
    """Draw lines over a common axis.

    Args:
        lines: what is drawn, the last one on top.
        label: a name for screen readers, to which the ends of the lines are added.
        x_name: what stands below the axis.
        marks: (x, letters): a dashed line at x, with the letters above it.
        whole: whether the axis shows whole numbers only.
    """
    xs = [x for line in lines for x, _ in line.points] + [x for x, _ in marks]
    ys = [y for line in lines for _, y in line.points if y is not None and _drawable(y)]
    ys += [end for line in lines for bar in line.bars if bar is not None for end in bar if _drawable(end)]
    if not ys:
        return _svg(f"{label}: {_EMPTY}", [_text(_WIDTH / 2, _HEIGHT / 2, _EMPTY, "middle")])
    x_domain, y_domain = _padded(min(xs), max(xs), 0.03), _padded(min(ys), max(ys), 0.08)
    body = [*_axes(x_domain, y_domain, x_name, whole=whole)]
    for x, letters in marks:
        at = _place(x, x_domain, (_LEFT, _WIDTH - _RIGHT))
        body.append(_segment(at, _TOP - 4, at, _HEIGHT - _BOTTOM, "mark"))
        body.append(Markup('<text x="{:.1f}" y="11" text-anchor="middle" class="letter">{}</text>').format(at, letters))
    for line in lines:
        body += _drawn(line, x_domain, y_domain)
    ends = [(line, _last(line)) for line in lines]
    words = "; ".join(f"{text(line.name, 60)} ends at {end:.4g}" for line, end in ends if end is not None)
    return _svg(f"{label}. {words}", body)


def swatch(colour: int, dash: int = 0) -> Markup:
    """Draw the piece of a line that stands beside its name in a legend."""
    path = Markup('<path d="M1 5L25 5" class="line c{} d{}"/>').format(colour % COLOURS, dash)
    return Markup('<svg width="26" height="10" viewBox="0 0 26 10" aria-hidden="true">{}</svg>').format(path)


def legend(entries: Sequence[tuple[str, int, int]]) -> Markup:
    """Return a legend of (name, colour, dash)."""
    items = join(
        Markup("<li>{}<bdi>{}</bdi></li>").format(swatch(colour, dash), text(words, 80))
        for words, colour, dash in entries
    )
    return Markup('<ul class="legend">{}</ul>').format(items)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Choose at most `wanted` + 1 round numbers in [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    if not high > low or not math.isfinite(high - low):
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / wanted))
    for step in (s * power for s in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)  # 1e-9: rounding of 0.3 / 0.1
        if last - first <= wanted:
            break
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)] or [low]


def tick_texts(values: Sequence[float]) -> list[str]:
    """Write the values with the decimals that tell neighbours apart; in powers of ten when they are tiny or huge."""
    step = min((abs(b - a) for a, b in itertools.pairwise(values)), default=0.0)
    largest = max((abs(v) for v in values), default=0.0)
    if not step or largest >= 1e6 or largest < 1e-3:
        return ["0" if v == 0 else f"{v:.3g}" for v in values]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{v:,.{decimals}f}".replace("-", "−") for v in values]


def _drawn(line: Line, x_domain: tuple[float, float], y_domain: tuple[float, float]) -> list[Markup]:
    x_span, y_span = (_LEFT, _WIDTH - _RIGHT), (_HEIGHT - _BOTTOM, _TOP)
    colour = line.colour % COLOURS
    placed = [
        (_place(x, x_domain, x_span), _place(y, y_domain, y_span)) if y is not None and _drawable(y) else None
        for x, y in line.points
    ]
    body = []
    for point, bar in zip(placed, line.bars, strict=False):
        if point is not None and bar is not None and all(map(_drawable, bar)):
            low, high = (_place(end, y_domain, y_span) for end in bar)
            body.append(_segment(point[0], low, point[0], high, f"bar c{colour}"))
    path, pen = "", "M"
    for point in placed:
        path += f"{pen}{point[0]:.1f} {point[1]:.1f}" if point else ""
        pen = "L" if point else "M"
    tip = f"{text(line.name, 80)}"
    template = Markup('<path d="{}" class="line c{} d{}"><title>{}</title></path>')
    body.append(template.format(path, colour, line.dash, tip))
    framed = [None, *placed, None]
    for (x, y), before, point, after in zip(line.points, framed, placed, framed[2:], strict=False):
        if point is not None and (line.dots or (before is None and after is None)):
            dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3" class="c{}"><title>{}</title></circle>')
            body.append(dot.format(*point, colour, f"{tip}, {x:g}: {y:.4g}"))
    return body


def _axes(x_domain: tuple[float, float], y_domain: tuple[float, float], x_name: str, *, whole: bool) -> list[Markup]:
    x_span, y_span = (_LEFT, _WIDTH - _RIGHT), (_HEIGHT - _BOTTOM, _TOP)
    body = []
    values = ticks(*y_domain)
    for value, words in zip(values, tick_texts(values), strict=True):
        y = _place(value, y_domain, y_span)
        body += [_segment(_LEFT, y, _WIDTH - _RIGHT, y, "grid"), _text(_LEFT - 6, y + 4, words, "end")]
    wanted = min(8, int((_WIDTH - _LEFT - _RIGHT) / _NARROW))
    values = [value for value in ticks(*x_domain, wanted) if not whole or value.is_integer()]
    for value, words in zip(values, tick_texts(values), strict=True):
        body.append(_text(_place(value, x_domain, x_span), _HEIGHT - _BOTTOM + 15, words, "middle"))
    return [*body, _text((x_span[0] + x_span[1]) / 2, _HEIGHT - 4, x_name, "middle")]


def _last(line: Line) -> float | None:
    return next((y for _, y in reversed(line.points) if y is not None and _drawable(y)), None)


def _drawable(value: float) -> bool:
    """Return whether a value can be placed: finite, and not so large that the range of several overflows."""
    return math.isfinite(value) and abs(value) < _LARGEST


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    gap = (high - low) * share if high > low else abs(low) * 0.1 or 1.0
    return low - gap, high + gap


def _place(value: float, domain: tuple[float, float], span: tuple[float, float]) -> float:
    return span[0] + (value - domain[0]) / (domain[1] - domain[0]) * (span[1] - span[0])


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, words)


def _segment(x1: float, y1: float, x2: float, y2: float, classes: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, classes)


def _svg(label: str, body: Sequence[Markup]) -> Markup:
    return Markup('<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {:g} {:g}">{}</svg>').format(
        text(label, 500), _WIDTH, _HEIGHT, join(body)
    )
