"""Which images belong together (a patient, a video, a scene) and must stay in one split.

A group comes from a folder below the class, from a regular expression on the path, or from a column of a table. Its
name never holds the class or the split: a patient with images of two classes is one group.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reprise.artifacts.labels.image_names import ImageNames
from reprise.config.errors import SourceError, printable
from stages.ingest.source import Candidate

_SHOWN = 5
Rule = Literal["none", "folder", "pattern", "table"]
Find = Callable[[str, Sequence[str]], str | None]  # path below the root, folders below the class -> group


@dataclass(frozen=True)
class Grouping:
    """How images are grouped; the fields are those of `source.options` that begin with `group`."""

    rule: Rule
    level: int = 1
    pattern: str | None = None
    table: Path | None = None
    image_column: str = "image"
    column: str = "group"

    @property
    def words(self) -> str:
        """What a group is, in words."""
        return {
            "none": "there are no groups",
            "folder": f"folder {self.level} below the class",
            "pattern": f"the part of the path that matches {printable(self.pattern, 120)}",
            "table": f"column '{printable(self.column, 80)}' of {printable(self.table, 200)}",
        }[self.rule]


def group_finder(grouping: Grouping, names: Sequence[str]) -> Find:
    """Make the function that names the group of an image, or returns None for an image of its own.

    Args:
        grouping: the rule.
        names: paths of all images below the root, among which a table's rows are looked up.

    Raises:
        SourceError: the table cannot be used.
    """
    if grouping.rule == "folder":
        return lambda _, below: below[grouping.level - 1] if len(below) >= grouping.level else None
    if grouping.rule == "pattern":
        return _by_pattern(re.compile(grouping.pattern or ""))
    if grouping.rule == "table":
        groups = _read_table(grouping, names)
        return lambda name, _: groups.get(name)
    return lambda *_: None


def _by_pattern(pattern: re.Pattern[str]) -> Find:
    """Take the group named `group` of a regular expression, or else its first group, or else the whole match."""
    part: str | int = "group" if "group" in pattern.groupindex else min(1, pattern.groups)

    def find(name: str, _: Sequence[str]) -> str | None:
        match = pattern.search(name)
        return (match[part] or None) if match else None

    return find


def _read_table(grouping: Grouping, names: Sequence[str]) -> dict[str, str]:
    """Read the table: path below the root -> group. Empty groups are left out.

    Raises:
        SourceError: the table is missing or no CSV, a column is missing, a row fits several images, an image has two
            groups, or no row names an image.
    """
    path = grouping.table or Path()
    try:
        with path.expanduser().open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fix = "Save it as comma-separated UTF-8 text, or correct source.options.group_table."
        raise _wrong_table("the table of groups cannot be read", path, error, fix) from error
    head = [name.strip() for name in lines[0]] if lines else []
    for option, column in (("group_image", grouping.image_column), ("group_column", grouping.column)):
        if head.count(column) != 1:
            found = f"columns {', '.join(head)}" if head else "no line"
            raise _wrong_table(
                f"the table of groups must have one column '{column}'", path, found, f"Set source.options.{option}."
            )
    image_at, group_at = head.index(grouping.image_column), head.index(grouping.column)
    index = ImageNames(names)
    groups: dict[str, str] = {}
    for number, row in enumerate(lines[1:], 2):
        if not row:
            continue
        if len(row) != len(head):
            raise _wrong_table(
                f"line {number} must have {len(head)} fields", path, len(row), "Quote fields that contain commas."
            )
        i = index.find(row[image_at])
        if i is None or not row[group_at].strip():
            continue
        if i < 0:
            raise _wrong_table(
                f"line {number}: the name is the end of several paths", path, row[image_at], "Write more of the path."
            )
        group = row[group_at].strip()
        if groups.setdefault(names[i], group) != group:
            raise _wrong_table(
                f"line {number}: an image belongs to one group",
                path,
                f"{row[image_at]} in '{groups[names[i]]}' and '{group}'",
                "Keep one of the rows.",
            )
    return groups


def _wrong_table(what: str, path: Path, found: object, fix: str) -> SourceError:
    return SourceError(what, where=path, found=found, fix=fix)


def check_grouping(grouping: Grouping, candidates: Iterable[Candidate], root: Path | str) -> str:
    """Check that the rule groups something, and state what it does in a sentence; empty without a rule.

    Raises:
        SourceError: no image has a group.
    """
    if grouping.rule == "none":
        return ""
    sizes: dict[str, int] = defaultdict(int)
    alone: list[str] = []
    for candidate in candidates:
        if candidate.group is None:
            alone.append(candidate.name)
        else:
            sizes[candidate.group] += 1
    if not sizes:
        fixes = {
            "folder": "Correct source.options.group_level, or set source.options.labels to `none` if the folders are "
            "the groups and no classes.",
            "pattern": "Correct source.options.group_pattern; it is searched in the path below the root.",
            "table": "Write the ends of the images' paths into the table, or correct source.options.group_table.",
        }
        raise SourceError(
            f"no image has a group, although source.options.group is `{grouping.rule}`",
            where=root,
            found=f"{len(alone):,} images without a group ({grouping.words}), for instance {', '.join(alone[:2])}",
            fix=fixes[grouping.rule],
        )
    said = f"Groups: {len(sizes):,} ({grouping.words}), of {min(sizes.values()):,} to {max(sizes.values()):,} files."
    if alone:
        said += f" {len(alone):,} files have none and count as groups of their own, for instance {printable(alone[0])}."
    return said


def check_splits_of_groups(candidates: Iterable[Candidate], root: Path | str) -> None:
    """Refuse a group that lies in several splits which the source itself gives.

    Raises:
        SourceError: it names such groups.
    """
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for candidate in candidates:
        if candidate.group is not None:
            counts[candidate.group][candidate.split or "train"] += 1
    torn = {group: splits for group, splits in sorted(counts.items()) if len(splits) > 1}
    if not torn:
        return
    shown = [
        f"{printable(group, 80)} ({', '.join(f'{n:,} in {split}' for split, n in sorted(splits.items()))})"
        for group, splits in list(torn.items())[:_SHOWN]
    ]
    more = f" and {len(torn) - _SHOWN:,} more" if len(torn) > _SHOWN else ""
    raise SourceError(
        "a group must lie in one split, and the source gives its images several",
        where=root,
        found=f"{len(torn):,} of {len(counts):,} groups: {', '.join(shown)}{more}",
        fix="Move the images of each group into one split, or correct what is a group (source.options.group), or let "
        "the hash of the group decide about splits: put all images into one folder for each class.",
    )
