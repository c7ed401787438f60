"""Figures with intervals over a share that rises by factors, a line for each run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from stages.report.drawing.charts import COLOURS, Estimate, pad, path, place, svg, tick_texts, ticks
from stages.report.text import number, one_line

_APART = 5.0  # units between the bars of two lines at the same share


def share_chart(lines: Sequence[tuple[str, Mapping[float, Estimate]]], label: str) -> Markup:
    """Draw the figures of several runs over shares in percent, on a logarithmic axis.

    Args:
        lines: name of the run, and its figure at each share; colours follow their order.
        label: a name for screen readers.
    """
    width, height, left, right, top, bottom = 640.0, 280.0, 56.0, 24.0, 12.0, 44.0
    shares = sorted({share for _, figures in lines for share in figures})
    values = [v for _, figures in lines for e in figures.values() for v in (e.value, e.low, e.high) if v is not None]
    y_domain, y_span = pad(min(values), max(values)), (height - bottom, top)
    logs = [math.log10(share) for share in shares]
    x_domain = pad(logs[0], logs[-1], 0.05)
    body = []
    marks = ticks(*y_domain, wanted=5)
    for tick, words in zip(marks, tick_texts(marks), strict=True):
        y = place(tick, y_domain, y_span)
        body += [_line(left, y, width - right, y, "grid"), _words(left - 8, y + 4, words, "end")]
    for share, log in zip(shares, logs, strict=True):
        body.append(_words(place(log, x_domain, (left, width - right)), height - bottom + 18, f"{share:g} %", "middle"))
    body.append(_words((left + width - right) / 2, height - 6, "share of the labels", "middle"))
    for index, (name, figures) in enumerate(lines):
        aside = _APART * (index - (len(lines) - 1) / 2)
        points: list[tuple[float, float] | None] = []
        drawn = []
        for share, log in zip(shares, logs, strict=True):
            if (figure := figures.get(share)) is None:
                points.append(None)
                continue
            x, y = place(log, x_domain, (left, width - right)) + aside, place(figure.value, y_domain, y_span)
            points.append((x, y))
            tip = f"{one_line(name)} at {share:g} %: {number(figure.value)}"
            parts = []
            if figure.low is not None and figure.high is not None:
                tip += f" [{number(figure.low)}, {number(figure.high)}]"
                ends = place(figure.low, y_domain, y_span), place(figure.high, y_domain, y_span)
                parts.append(_line(x, ends[0], x, ends[1], f"line c{index % COLOURS}"))
            parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="c{}"/>').format(x, y, index % COLOURS))
            drawn.append(Markup("<g><title>{}</title>{}</g>").format(tip, Markup("").join(parts)))
        body.append(Markup('<path d="{}" class="line c{}"/>').format(path(points), index % COLOURS))
        body += drawn
    return svg(width, height, label, body, "chart wide")


def _line(x1: float, y1: float, x2: float, y2: float, classes: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, classes)


def _words(x: float, y: float, words: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" class="tick" text-anchor="{}">{}</text>').format(x, y, anchor, words)
