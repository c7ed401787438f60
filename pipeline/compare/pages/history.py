"""The page of `reprise history`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from pipeline.compare.history.points import History, Point
from pipeline.compare.history.texts import changes, interval_of, marks, runs_of
from pipeline.compare.pages.charts import COLOURS, Line, legend, line_chart
from pipeline.compare.pages.document import cell, document, head, join, name, row, section, table, text
from pipeline.compare.runs import in_digits, with_interval
from reprise.measures.statistics import Interval
from reprise.storage.atomic import atomic_file

_MOST_CHANGES = 20  # parameters of one point


def write_page(history: History, metrics: Sequence[str], family: str, target: Path, runs: Sequence[str] = ()) -> None:
    """Write the page of a history.

    Raises:
        StorageError: the page cannot be written.
    """
    content = page(history, metrics, family, runs)
    with atomic_file(target, "w") as file:
        file.write(content)


def page(history: History, metrics: Sequence[str], family: str, runs: Sequence[str] = ()) -> str:
    """Return the page.

    Args:
        history: what is shown.
        metrics: a chart each.
        family: the metric that is tested.
        runs: the only runs to show; none means all.
    """
    shown = list(dict.fromkeys(run for metric in metrics for run in runs_of(history, metric, runs)))
    style = {run: (index % COLOURS, index // COLOURS % 3) for index, run in enumerate(shown)}
    return document(
        f"History of {', '.join(metrics)}",
        _lead(history),
        [
            section("Figures", *_charts(history, metrics, style)),
            section("What changed", _points(history, family)),
            *([section("Versions and refused runs", _outcomes(history))] if history.outcomes else []),
            section("All values", *(_values(history, metric, runs_of(history, metric, runs)) for metric in metrics)),
        ],
    )


def _lead(history: History) -> Markup:
    first, last = history.points[0], history.points[-1]
    kinds = {kind: sum(point.kind == kind for point in history.points) for kind in ("revision", "night", "folder")}
    words = ", ".join(
        f"{count} {kind}{'s' if count != 1 else ''}" if kind != "folder" else "the folder as it is"
        for kind, count in kinds.items()
        if count
    )
    span = f"{first.when[:10]} to {last.when[:10]}" if first.when[:10] != last.when[:10] else first.when[:10]
    lead = Markup("<p>{}, {}. Times are in UTC.</p>").format(words, span)
    items = join(Markup("<li>{}</li>").format(text(note, 600)) for note in history.notes)
    return join([lead, Markup('<ul class="notes">{}</ul>').format(items)]) if history.notes else lead


def _charts(history: History, metrics: Sequence[str], style: dict[str, tuple[int, int]]) -> list[Markup]:
    where = [(float(number), marks(point)) for number, point in enumerate(history.points, 1)]
    marked = [(number, letters) for number, letters in where if letters]
    figures = []
    for metric in metrics:
        lines = [_line(history, metric, run, *style[run]) for run in runs_of(history, metric) if run in style]
        chart = line_chart(lines, f"{metric} over the points of the history", "point", marked)
        figures.append(Markup("<figure><figcaption>{}</figcaption>{}</figure>").format(name(metric), chart))
    note = (
        "The points are numbered below. At a dashed line the data (D) or parameters (P) changed, so the figures on "
        "its two sides were not made in the same way. Bars are 95 % intervals: over seeds where there are three or "
        "more, over images of a single seed, as far as DVC's cache holds them."
    )
    return [
        Markup('<p class="note">{}</p>').format(note),
        legend([(run, *look) for run, look in style.items()]),
        Markup('<div class="cards wide">{}</div>').format(join(figures)),
    ]


def _line(history: History, metric: str, run: str, colour: int, dash: int) -> Line:
    points = [
        (float(number), point.measured.means.get(run, {}).get(metric)) for number, point in enumerate(history.points, 1)
    ]
    intervals = [interval_of(point, metric, run) for point in history.points]
    bars = [None if low is None or high is None else (low, high) for low, high in intervals]
    return Line(run, points, colour, dash, bars, dots=True)


def _points(history: History, family: str) -> Markup:
    numbered = list(enumerate(history.points, 1))
    items = join(_item(number, point, number == 1) for number, point in reversed(numbered))
    words = (
        f"The newest point comes first. Verdicts are on {family}, corrected for the number of runs at that point, but "
        "not for the number of points: over a long history some differences appear by chance."
    )
    return join(
        [Markup('<p class="note">{}</p>').format(text(words)), Markup('<ul class="points">{}</ul>').format(items)]
    )


def _item(number: int, point: Point, first: bool) -> Markup:
    what = {"revision": "no message", "night": "Night", "folder": "The folder as it is"}[point.kind]
    code = Markup("{}<code>{}</code>, ").format("" if point.kind == "revision" else "on ", point.commit[:10])
    heading = Markup("<h3>{}. {}</h3>").format(number, name(point.subject or what, 160))
    moment = text(point.when[:16].replace("T", " "))
    when = Markup('<p class="note">{}{}</p>').format(code if point.commit else "", moment)
    also = f"The same figures again: {', '.join(point.also[:8])}{' and more' if len(point.also) > 8 else ''}."
    lines = [] if first else changes(point, _MOST_CHANGES)
    return Markup("<li>{}{}{}{}{}{}{}</li>").format(
        heading,
        when,
        _tags(point),
        Markup('<p class="note">{}</p>').format(text(also, 600)) if point.also else "",
        _list(lines if lines or first else ["Neither parameters nor images changed."]),
        _list(list(point.verdicts.values())),
        _list(point.notes),
    )


def _outcomes(history: History) -> Markup:
    """List what was promoted and what was refused, the newest first."""
    rows = [
        row(
            [
                head(outcome.when[:16].replace("T", " ")),
                cell(Markup('<span class="tag">{}</span> {}').format(outcome.kind, name(outcome.name, 80))),
                cell(name(outcome.message, 2000), column="why"),
            ]
        )
        for outcome in reversed(history.outcomes)
    ]
    note = (
        "A version is a tag of git that a run got because it was not worse than the last one. A refused run of a flow "
        "has no figures of its own, or its figures were not good enough."
    )
    listed = table(["when", "promoted or refused", "why"], rows, "Versions and refused runs", stacked=True)
    return join([Markup('<p class="note">{}</p>').format(text(note, 600)), listed])


def _tags(point: Point) -> Markup:
    words = [word for word, there in (("data", point.images_changed), ("parameters", bool(point.parameters))) if there]
    return join(Markup('<span class="tag">{} changed</span>').format(word) for word in words)


def _list(lines: Sequence[str]) -> Markup:
    items = join(Markup("<li>{}</li>").format(name(line, 600)) for line in lines)
    return Markup("<ul>{}</ul>").format(items) if lines else Markup("")


def _values(history: History, metric: str, runs: Sequence[str]) -> Markup:
    rows = []
    for number, point in enumerate(history.points, 1):
        cells = [head(number), cell(name(point.when[:16].replace("T", " "))), cell(name(point.name))]
        for run in runs:
            value = point.measured.means.get(run, {}).get(metric)
            low, high = interval_of(point, metric, run)
            small = with_interval(value, Interval(low, high)).partition(" ")[2]
            shown = "-" if value is None else in_digits(value)
            ends = Markup(" <small>{}</small>").format(small) if small else ""
            cells.append(cell(Markup("{}{}").format(shown, ends), "figure"))
        rows.append(row(cells))
    listed = table(["point", "when", "name", *runs], rows, f"Values of {metric}")
    return Markup("<details><summary>{}</summary>{}</details>").format(name(metric), listed)
