"""Write an overview as JSON for programs, and as Markdown for a page of text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.compare.runs import Change
from pipeline.compare.sides.answers import Flip, Flips
from pipeline.compare.sides.inputs import paths_of
from pipeline.compare.sides.overview import Overview, PairOfSides
from pipeline.compare.sides.parameters import in_json
from pipeline.processes.markdown import escape, table

MOST_FLIPS = 24  # of each direction that are shown with their names
MOST_CHANGES = 60  # parameters that are shown


def document(overview: Overview, root: Path = Path()) -> dict[str, Any]:
    """Return the overview for programs."""
    paths = paths_of_flips(overview, root)
    return {
        "sides": [vars(side) for side in overview.sides],
        "metric": overview.metric,
        "doubtful": overview.doubtful,
        "comparisons": [_pair(pair, paths) for pair in overview.pairs],
    }


def paths_of_flips(overview: Overview, root: Path) -> dict[str, str]:
    """Return the path of each image whose answer flipped and that is shown."""
    keys = shown_keys(overview)
    return paths_of(keys, overview.sides, root) if keys else {}


def shown_keys(overview: Overview) -> set[str]:
    """Return the keys of the images whose answer flipped and that are shown."""
    return {
        flip.key
        for pair in overview.pairs
        for flips in pair.flips
        for flip in (*flips.became_right[:MOST_FLIPS], *flips.became_wrong[:MOST_FLIPS])
    }


def markdown(overview: Overview) -> str:
    """Return a page of Markdown; text from outside is escaped."""
    blocks = []
    for pair in overview.pairs:
        base, other = escape(pair.base.name), escape(pair.other.name)
        blocks.append(f"## {other} against {base}")
        if pair.notes:
            blocks.append("\n".join(f"- **{note.kind}**: {escape(note.text, 1000)}" for note in pair.notes))
        blocks += [f"### What differs\n\n{_what_differs(pair)}", f"### Figures\n\n{_figures(pair)}"]
        if pair.flips:
            rows = [[each.run, each.images, len(each.became_right), len(each.became_wrong)] for each in pair.flips]
            columns = ["run", "images", "became right", "became wrong"]
            blocks.append(f"### Answers of {escape(pair.flips[0].probe)} that flipped\n\n{table(columns, rows)}")
    return "\n\n".join(blocks)


def parameter_rows(pair: PairOfSides) -> list[list[str]]:
    """Return a row for each parameter that differs: name, value of the base, value of the other side."""
    return [
        [
            change.name,
            "-" if change.kind == "added" else in_json(change.old),
            "-" if change.kind == "removed" else in_json(change.new),
        ]
        for change in (pair.parameters or ())[:MOST_CHANGES]
    ]


def words_on_parameters(pair: PairOfSides) -> str:
    """Say how many parameters differ, where a table does not say it all."""
    if pair.parameters is None:
        return "The parameters of a side cannot be read."
    left_out = len(pair.parameters) - MOST_CHANGES
    if left_out > 0:
        return f"{left_out} more parameters differ."
    return "" if pair.parameters else "No parameter differs."


def _what_differs(pair: PairOfSides) -> str:
    rows = parameter_rows(pair)
    parts = [table(["parameter", pair.base.name, pair.other.name], rows)] if rows else []
    parts += [words] if (words := words_on_parameters(pair)) else []
    parts += [escape(pair.images.line(), 1000)] if pair.images else []
    return "\n\n".join(parts)


def _figures(pair: PairOfSides) -> str:
    columns = ["run", "metric", pair.base.name, pair.other.name, "difference", "its interval", "verdict"]
    return table(columns, pair.figures.rows())


def _pair(pair: PairOfSides, paths: Mapping[str, str]) -> dict[str, Any]:
    return {
        "base": pair.base.name,
        "other": pair.other.name,
        "notes": [vars(note) for note in pair.notes],
        "parameters": None if pair.parameters is None else [vars(change) for change in pair.parameters],
        "images": None if pair.images is None else vars(pair.images),
        "figures": [_change(change) for change in pair.figures.changes],
        "flips": [_flips(each, paths) for each in pair.flips],
    }


def _change(change: Change) -> dict[str, Any]:
    pair = change.pair
    return {
        "run": change.run,
        "metric": change.metric,
        "base": change.base,
        "other": change.other,
        "difference": change.difference,
        "low": change.interval.low,
        "high": change.interval.high,
        "over": change.over,
        "test": None if pair is None else pair.test,
        "verdict": change.verdict,
    }


def _flips(flips: Flips, paths: Mapping[str, str]) -> dict[str, Any]:
    def shown(each: tuple[Flip, ...]) -> list[dict[str, Any]]:
        return [vars(flip) | {"path": paths.get(flip.key)} for flip in each[:MOST_FLIPS]]

    return {
        "run": flips.run,
        "probe": flips.probe,
        "seeds": flips.seeds,
        "images": flips.images,
        "became_right": len(flips.became_right),
        "became_wrong": len(flips.became_wrong),
        "examples_right": shown(flips.became_right),
        "examples_wrong": shown(flips.became_wrong),
    }
