"""Accuracy by severity: a line a run, with the interval of each point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stages.report.drawing.charts import COLOURS, Estimate, path, place, svg, tick_texts, ticks
from stages.report.text import abbreviate, number, one_line

WIDTH, HEIGHT = 300.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 12.0, 26.0, 34.0
APART = 5.0  # between the points of two runs at one severity, so that intervals do not cover each other


@dataclass(frozen=True)
class BySeverity:
    """One run's figures by severity; 0 is the unchanged image."""

    run: str
    points: tuple[tuple[int, Estimate], ...]


def severity_chart(runs: Sequence[BySeverity], title: str) -> Markup:
    """Draw accuracies from 0 to 1 over severities; a run's colour is its place in the list."""
    severities = sorted({severity for run in runs for severity, _ in run.points})
    across, down = (LEFT + 14, WIDTH - RIGHT - 14), (HEIGHT - BOTTOM, TOP)
    domain = (float(severities[0]), float(max(severities[-1], severities[0] + 1)))
    body = [_text(2, 13, abbreviate(title, 44), "title")]
    marks = ticks(0.0, 1.0, wanted=5)
    for tick, words in zip(marks, tick_texts(marks), strict=True):
        y = place(tick, (0.0, 1.0), down)
        body += [_segment(LEFT, y, WIDTH - RIGHT, y, "grid"), _text(LEFT - 6, y + 4, words, "tick", "end")]
    for severity in severities:
        words = str(severity) if severity else "clean"
        body.append(_text(place(severity, domain, across), HEIGHT - BOTTOM + 15, words, "tick", "middle"))
    body.append(_text((across[0] + across[1]) / 2, HEIGHT - 4, "severity", "tick", "middle"))
    for index, run in enumerate(runs):
        shift = (index - (len(runs) - 1) / 2) * min(APART, 24.0 / max(1, len(runs)))
        body.append(_line(run, index % COLOURS, shift, domain, (across, down)))
    last = ", ".join(f"{one_line(run.run)} {number(run.points[-1][1].value)}" for run in runs if run.points)
    return svg(WIDTH, HEIGHT, f"{title} by severity. At the highest: {last}", body)


def _line(
    run: BySeverity,
    colour: int,
    shift: float,
    domain: tuple[float, float],
    spans: tuple[tuple[float, float], tuple[float, float]],
) -> Markup:
    across, down = spans
    points, drawn = [], []
    for severity, estimate in run.points:
        x, y = place(severity, domain, across) + shift, place(estimate.value, (0.0, 1.0), down)
        points.append((x, y))
        tip = f"{one_line(run.run)}, {f'severity {severity}' if severity else 'clean'}: {number(estimate.value)}"
        parts = []
        if estimate.low is not None and estimate.high is not None:
            ends = [place(end, (0.0, 1.0), down) for end in (estimate.low, estimate.high)]
            tip += f" [{number(estimate.low)}, {number(estimate.high)}]"
            parts.append(_segment(x, ends[0], x, ends[1], f"line c{colour}"))
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.6" class="c{}"/>').format(x, y, colour))
        drawn.append(Markup("<g><title>{}</title>{}</g>").format(tip, Markup("").join(parts)))
    line = Markup('<path d="{}" class="line c{}"/>').format(path(points), colour)
    return Markup("").join([line, *drawn])


def _text(x: float, y: float, words: str, classes: str = "", anchor: str = "start") -> Markup:
    tag = Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>')
    return tag.format(x, y, classes, anchor, words)


def _segment(x1: float, y1: float, x2: float, y2: float, classes: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, classes)
