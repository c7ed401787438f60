"""The page of `reprise compare`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from pipeline.compare.pages.charts import Line, legend, line_chart
from pipeline.compare.pages.document import cell, document, head, join, name, row, section, table, text
from pipeline.compare.pages.pictures import pictures
from pipeline.compare.runs import Change, in_digits, interval_in_words, with_interval
from pipeline.compare.sides.answers import Flip
from pipeline.compare.sides.names import RUN, Side
from pipeline.compare.sides.overview import Overview, PairOfSides
from pipeline.compare.sides.texts import MOST_FLIPS, parameter_rows, paths_of_flips, shown_keys, words_on_parameters
from reprise.storage.atomic import atomic_file

_DASHES = 3


def write_page(overview: Overview, target: Path, root: Path = Path()) -> None:
    """Write the page of an overview.

    Raises:
        StorageError: the page cannot be written.
    """
    paths = paths_of_flips(overview, root)
    content = page(overview, paths, pictures(shown_keys(overview), root))
    with atomic_file(target, "w") as file:
        file.write(content)


def page(overview: Overview, paths: Mapping[str, str], images: Mapping[str, Markup]) -> str:
    """Return the page.

    Args:
        overview: what was compared.
        paths: the path of images by key.
        images: an `img` by key.
    """
    names = " against ".join([", ".join(side.name for side in overview.sides[1:]), overview.sides[0].name])
    sections = []
    for pair in overview.pairs:
        several = len(overview.pairs) > 1
        sections += _pair(pair, overview.metric, paths, images, heading=f"{pair.other.name}: " if several else "")
    if overview.curves:
        sections.append(_curves(overview))
    return document(f"Compared: {names}", _lead(overview), sections)


def _lead(overview: Overview) -> Markup:
    columns = ["name", "what it is", "committed (UTC)", "message"]
    rows = [
        row([
            head(side.name),
            cell(_kind(side), "break", columns[1]),
            cell(name(side.when[:16].replace("T", " ")) if side.when else "", "figure", columns[2]),
            cell(name(side.subject) if side.subject else "", "break", columns[3]),
        ])
        for side in overview.sides
    ]  # fmt: skip
    listed = table(columns, rows, "What is compared", stacked=True)
    notes = [(pair, note) for pair in overview.pairs for note in pair.notes]
    if not notes:
        return join([listed, Markup('<p class="fair">Same images, same budgets, and figures that are current.</p>')])
    several = len(overview.pairs) > 1
    items = join(
        Markup('<li class="{}"><strong>{}</strong>{}: {}</li>').format(
            note.kind,
            note.kind.capitalize(),
            Markup(" ({})").format(name(pair.other.name)) if several else "",
            text(note.text, 1000),
        )
        for pair, note in notes
    )
    return join([listed, Markup('<ul class="notes">{}</ul>').format(items)])


def _kind(side: Side) -> Markup:
    if side.commit:
        return Markup("{} <code>{}</code>").format(side.kind, side.commit[:12])
    return Markup("{}").format("the folder as it is" if side.kind != RUN else "run of this folder")


def _pair(
    pair: PairOfSides, metric: str, paths: Mapping[str, str], images: Mapping[str, Markup], heading: str
) -> list[Markup]:
    return [
        section(name(f"{heading}What differs"), _what_differs(pair)),
        section(name(f"{heading}Figures"), _figures(pair, metric)),
        *([section(name(f"{heading}Answers that flipped"), *_flips(pair, paths, images))] if pair.flips else []),
    ]


def _what_differs(pair: PairOfSides) -> Markup:
    parts = []
    columns = ["parameter", pair.base.name, pair.other.name]
    if rows := parameter_rows(pair):
        cells = [
            row([head(words), *(cell(Markup("<code>{}</code>").format(text(value)), "break", column)
                                for value, column in zip(values, columns[1:], strict=True))])
            for words, *values in rows
        ]  # fmt: skip
        parts.append(table(columns, cells, "Parameters that differ", stacked=True))
    if words := words_on_parameters(pair):
        parts.append(Markup("<p>{}</p>").format(words))
    if pair.images is None:
        return join(parts)
    parts.append(Markup("<p>{}</p>").format(text(pair.images.line()[:1].upper() + pair.images.line()[1:] + ".")))
    for what, examples in pair.images.examples.items():
        if examples:
            items = join(Markup("<li><code>{}</code></li>").format(text(path)) for path in examples)
            parts.append(
                Markup("<details><summary>Images {}: {} of {:,}</summary><ul>{}</ul></details>").format(
                    what, len(examples), pair.images.counts[what], items
                )
            )
    return join(parts)


def _figures(pair: PairOfSides, metric: str) -> Markup:
    """The tested metric first, then all others, folded."""
    changes = pair.figures.changes
    tested = [change for change in changes if change.metric == metric]
    others = [change for change in changes if change.metric != metric]
    parts = [
        _figure_table(pair, tested, f"Figures of {metric}")
        if tested
        else Markup("<p>Neither side has a figure of {}.</p>").format(name(metric))
    ]
    if others:
        below = _figure_table(pair, others, "Other figures")
        words = Markup(
            '<p class="note">No verdicts are given here: testing every figure finds differences by chance.</p>'
        )
        parts.append(
            Markup("<details><summary>{} other figures</summary>{}{}</details>").format(len(others), words, below)
        )
    return join(parts)


def _figure_table(pair: PairOfSides, changes: Sequence[Change], label: str) -> Markup:
    columns = ["run", "metric", pair.base.name, pair.other.name, "difference", "verdict"]
    rows = []
    for change in changes:
        ends = interval_in_words(change.interval, change.over)
        difference = "" if change.difference is None else in_digits(change.difference, sign=True)
        small = Markup("<small>{}</small>").format(ends) if ends else ""
        rows.append(
            row([
                head(change.run),
                cell(name(change.metric), "figure", columns[1]),
                cell(with_interval(change.base, change.base_interval), "figure", columns[2]),
                cell(with_interval(change.other, change.other_interval), "figure", columns[3]),
                cell(Markup("{} {}").format(difference, small), "figure", columns[4]) if difference else cell(""),
                cell(name(change.verdict, 1000) if change.verdict else "", "words"),
            ])
        )  # fmt: skip
    return table(columns, rows, label, stacked=True)


def _flips(pair: PairOfSides, paths: Mapping[str, str], images: Mapping[str, Markup]) -> list[Markup]:
    parts = []
    for flips in pair.flips:
        seeds = f"seed {flips.seeds[0]}" if len(flips.seeds) == 1 else f"seeds {', '.join(map(str, flips.seeds))}"
        lead = (
            f"Of {flips.images:,} images that both answered ({flips.probe}, {seeds}), {len(flips.became_right):,} "
            f"became right and {len(flips.became_wrong):,} became wrong."
        )
        if len(flips.seeds) > 1:
            lead += " An image counts where at least half of the seeds turned."
        parts.append(Markup("<h3>{}</h3><p>{}</p>").format(name(flips.run), text(lead)))
        parts += [
            _samples(what, each, paths, images)
            for what, each in (("became wrong", flips.became_wrong), ("became right", flips.became_right))
            if each
        ]
    return parts


def _samples(what: str, flips: Sequence[Flip], paths: Mapping[str, str], images: Mapping[str, Markup]) -> Markup:
    shown = flips[:MOST_FLIPS]
    in_file = Counter(paths.get(flip.key) for flip in shown)  # images of one archive have its path in common
    items = join(
        Markup("<li>{}<bdi>{}</bdi>: {} → {}<small>{}</small></li>").format(
            images.get(flip.key, Markup('<span class="none">no picture</span>')),
            text(flip.label, 60),
            name(flip.before or "?", 60),
            name(flip.after or "?", 60),
            text(paths[flip.key] if in_file[paths.get(flip.key)] == 1 and flip.key in paths else flip.key, 120),
        )
        for flip in shown
    )
    count = f"{len(flips):,}" if len(shown) == len(flips) else f"{len(shown)} of {len(flips):,}"
    return Markup('<details open><summary>{} {}</summary><ul class="samples">{}</ul></details>').format(
        count, what, items
    )


def _curves(overview: Overview) -> Markup:
    """A chart for each run, with a line for each side and seed; for runs, one chart with a line for each run."""
    curves = list(enumerate(overview.curves))
    if overview.sides[0].kind == RUN:
        lines = {"": [(index, by_seed) for index, of_side in curves for by_seed in of_side.values()]}
    else:
        runs = dict.fromkeys(run for of_side in overview.curves for run in of_side)
        lines = {run: [(index, of_side[run]) for index, of_side in curves if run in of_side] for run in runs}
    figures = []
    for run, by_side in lines.items():
        drawn = [
            Line(f"{overview.sides[index].name}, seed {seed}", curve, index, index % _DASHES)
            for index, by_seed in by_side
            for seed, curve in sorted(by_seed.items())
            if curve
        ]
        if drawn:
            title = Markup("<figcaption>{}</figcaption>").format(name(run)) if run else ""
            chart = line_chart(drawn, f"Training loss {run}".strip(), "epoch")
            figures.append(Markup("<figure>{}{}</figure>").format(title, chart))
    if not figures:
        return section("Training loss", Markup("<p>No training curve is in the folder or in DVC's cache.</p>"))
    names = legend([(side.name, index, index % _DASHES) for index, side in enumerate(overview.sides)])
    words = (
        "Each line is a seed. Losses of different methods, or with other parameters of the loss, cannot be compared."
    )
    note = Markup('<p class="note">{}</p>').format(words)
    return section("Training loss", note, names, Markup('<div class="cards">{}</div>').format(join(figures)))
