"""The table `shifts`, and the suites of probes on shifted images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reprise.artifacts.manifest import scored_split
from reprise.config.errors import RepriseError
from reprise.config.params import ImageParams, Problem, problems_of
from reprise.config.plug_ins.registry import names
from reprise.config.shared_sections import cache_params
from reprise.config.shift_rows import ShiftRow
from reprise.config.texts.suggest import nearest
from stages.check.plug_ins import plug_in_class


def shifts_of(raw: dict[str, Any]) -> list[ShiftRow]:
    """Return the well-formed rows of `shifts`."""
    return [row for _, row in _numbered(raw)]


def _numbered(raw: dict[str, Any]) -> Iterator[tuple[int, ShiftRow]]:
    rows = raw.get("shifts")
    for index, row in enumerate(rows if isinstance(rows, list) else ()):
        try:
            yield index, ShiftRow.model_validate(row)
        except ValidationError:
            continue  # reported with the tables


def shift_problems(raw: dict[str, Any]) -> Iterator[Problem]:
    """Find what is wrong with the rows of `shifts`, besides their form."""
    known: dict[str, str] = {}
    for index, row in _numbered(raw):
        where = f"shifts[{index}]"
        for one in row.sets:
            if one.name in known:
                rule = f"these images would have the name of a set of '{known[one.name]}'"
                yield Problem(f"{where}.name", rule, one.name, " Rename or remove one.")
            known[one.name] = row.name
        yield from _plug_in_problems(where, row)
    if raw.get("shift_suites") and not raw.get("shifts"):
        hint = " Add a row to `shifts`, or empty the table of suites."
        yield Problem("shift_suites", "there are no shifted images on which these probes could be run", None, hint)


def _plug_in_problems(where: str, row: ShiftRow) -> Iterator[Problem]:
    """Hold a row against the corruption or source that it names."""
    corruptions, sources = names("shifts"), names("sources")
    if row.shift in corruptions and row.shift in sources:
        rule = "a corruption and a source have this name, so the row can be read in two ways"
        yield Problem(f"{where}.shift", rule, row.shift, " Rename the file of one of them.")
        return
    if row.shift not in (*corruptions, *sources):
        hint = nearest(row.shift, [*corruptions, *sources])
        hint = hint or f" Corruptions: {', '.join(corruptions)}. Sources: {', '.join(sources)}."
        yield Problem(f"{where}.shift", "unknown corruption or source", row.shift, hint)
        return
    try:
        plug_in: Any = plug_in_class("sources" if row.is_source else "shifts", row.shift, f"{where}.shift")
    except RepriseError as error:
        yield Problem(f"{where}.shift", error.what, error.found, f" {error.fix}")
        return
    yield from problems_of(plug_in.Params, row.options, f"{where}.options")
    if not row.is_source:
        if row.severity is None:
            yield Problem(f"{where}.severity", "a corruption needs a severity", None, " Write one from 1 to 5.")
        if row.root is not None:
            yield Problem(f"{where}.root", "a corruption changes the images of the data set", row.root, " Remove it.")
        return
    if row.severity is not None:
        yield Problem(f"{where}.severity", "images from elsewhere have no severity", row.severity, " Remove it.")
    if (row.root is None) == plug_in.reads_root:
        rule = "this source needs a folder or archive" if plug_in.reads_root else "this source has no folder"
        hint = " Add `root: FOLDER`." if plug_in.reads_root else " Remove it."
        yield Problem(f"{where}.root", rule, row.root, hint)


def shift_warnings(raw: dict[str, Any]) -> Iterator[Problem]:
    """Find shifted images of which no figure is made."""
    if shifts_of(raw) and not raw.get("shift_suites"):
        rule = "every run is embedded on these images, and no suite of probes measures it"
        hint = " Add `{name: shift}` to shift_suites, and its probes to shift_probes."
        yield Problem("shifts", rule, ", ".join(row.name for row in shifts_of(raw)), hint)


def root_warnings(raw: dict[str, Any], root: Path = Path()) -> Iterator[Problem]:
    """Find folders of images from elsewhere that this machine does not have."""
    for index, row in _numbered(raw):
        if row.is_source and row.root is not None and not os.path.lexists(root / row.root):
            hint = f" Put the images there. The path is taken from {(root or Path()).resolve()}."
            rule = "there is no such folder or archive on this machine"
            yield Problem(f"shifts[{index}].root", rule, row.root, hint)


def data_problems_of_shifts(raw: dict[str, Any], counts: dict[str, int]) -> Iterator[Problem]:
    """Find shifts for which the data set has no images to score.

    Args:
        raw: the content of params.yaml.
        counts: images by split.
    """
    if shifts_of(raw) and not (counts.get("test") or counts.get("val")):
        rule = "there is neither a test nor a val split, so training images would be changed and scored"
        hint = " Set source.test_fraction above 0, or bring a folder `test`."
        yield Problem("shifts", rule, dict(counts), hint)


def memory_warnings_of_shifts(raw: dict[str, Any], counts: dict[str, int]) -> Iterator[Problem]:
    """Find corruptions whose changed images do not fit into the cache, so that each run makes them again.

    Args:
        raw: the content of params.yaml.
        counts: images by split.
    """
    sets = max((len(row.sets) for row in shifts_of(raw) if not row.is_source), default=0)
    try:
        image, held = ImageParams.model_validate(raw.get("image")), cache_params(raw).memory_bytes
    except (ValidationError, RepriseError):
        return  # named as a problem elsewhere
    needed = sets * counts.get(scored_split(counts), 0) * image.size**2 * image.channels
    if needed > held and len(raw.get("runs") or ()) * len(raw.get("seeds") or ()) > 1:
        rule = "the changed images do not fit into memory, so each run makes them again, which takes time only"
        hint = f" Raise cache.memory_bytes to {needed}, or list fewer severities in a row."
        yield Problem("shifts", rule, f"{needed:,} bytes, cache.memory_bytes {held:,}", hint)
