"""The reliability diagram: accuracy over confidence, with the diagonal on which both are equal."""

from __future__ import annotations

from markupsafe import Markup

from stages.report.drawing.charts import place, svg, tick_texts
from stages.report.reliability import FEWEST_IMAGES, Reliability

SIDE, LEFT, TOP, BOTTOM, RIGHT = 190.0, 40.0, 8.0, 36.0, 10.0
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def reliability_chart(found: Reliability, label: str) -> Markup:
    """Draw a dot with its interval for each bin of at least `FEWEST_IMAGES` images.

    Args:
        found: the bins.
        label: a name for screen readers.
    """
    xs, ys = (LEFT, LEFT + SIDE), (TOP + SIDE, TOP)
    line = Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>')
    text = Markup('<text x="{:.1f}" y="{:.1f}" class="tick" text-anchor="{}">{}</text>')
    body = []
    for tick, words in zip(_TICKS, tick_texts(_TICKS), strict=True):
        x, y = place(tick, (0, 1), xs), place(tick, (0, 1), ys)
        body += [line.format(LEFT, y, LEFT + SIDE, y, "grid"), text.format(LEFT - 6, y + 4, "end", words)]
        body.append(text.format(x, TOP + SIDE + 15, "middle", words))
    body += [text.format(LEFT + SIDE / 2, TOP + SIDE + 31, "middle", "confidence")]
    body.append(line.format(xs[0], ys[0], xs[1], ys[1], "limit"))
    for b in found.bins:
        if b.images < FEWEST_IMAGES:
            continue
        x, y, low, high = place(b.confidence, (0, 1), xs), *(place(v, (0, 1), ys) for v in (b.accuracy, b.low, b.high))
        tip = f"{b.images:,} images, confidence {b.confidence:.3f}, accuracy {b.accuracy:.3f}"
        drawn = line.format(x, low, x, high, "whisker") + Markup(
            '<circle cx="{:.1f}" cy="{:.1f}" r="4" class="dot"/>'
        ).format(x, y)
        body.append(Markup("<g><title>{}</title>{}</g>").format(tip, drawn))
    return svg(LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM, label, body)
