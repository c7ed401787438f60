"""What the folders of a source mean: which are splits, which are classes. Nothing ambiguous is guessed.

Pure functions on names. Where the names can be read in two ways, the error shows both and names the parameter that
decides; where they are clear, the reading is stated for the terminal and the report.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reprise.config.errors import SourceError, printable

UNLABELLED = "unlabelled"  # of train, without labels, whatever the folders below
SplitName = Literal["train", "val", "test", "unlabelled"]
Labels = Literal["none", "folders", "parent"]
_KNOWN: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "devel", "development"),
    "test": (
        *("test", "testing", "eval", "evaluation"),
        *("holdout", "hold-out", "hold_out", "heldout", "held-out", "held_out"),
    ),
    "unlabelled": ("unlabeled", "unlabelled", "unsup"),
}
SPLIT_NAMES = {name: split for split, names in _KNOWN.items() for name in names}
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_OTHER = re.compile(  # what photos are sorted by when they are not sorted by class
    r"(19|20)\d\d([-_. ]?\d\d){0,2}([-_ ].*)?|\d{1,2}[-_.]\d{1,2}[-_.](19|20)\d\d"  # 2021, 2021-05-03 holiday, 3.5.2021
    rf"|({_MONTHS}|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)([-_ ]?\d+)?"
    r"|(?-i:\d{3}(?=.*[A-Z])[A-Z0-9_]{5})"  # the folders of a camera: 100CANON, 101_PANA
    r"|(dcim|camera|images?|imgs?|photos?|pictures?|pics|videos?|clips?|frames?)([-_ ]?\d+)?"
    r"|(masks?|labels?|annotations?|segmentations?|ground[-_ ]?truths?|gts?|rgb|depth|thermal|infrared|nir|disparity)"
    r"|(jpegimages|segmentationclass|segmentationobject)"  # of Pascal VOC
    r"|(fold|subset|split|cam|scene|seq|sequence|session|take|batch|part|chunk|shard|folder|dir|album|patient|subject|person|user|case|study"
    r"|site|device|sensor|roll|day|week|month|year|location|loc)[-_ ]?\d+",
    re.IGNORECASE,
)
_CONTAINERS = frozenset(
    ("data", "dataset", "raw", "all", "files", "media", "jpg", "jpgs", "jpeg", "jpegs", "png", "pngs")
)
_FAN_OUT = re.compile(r"[0-9a-f]{2,3}")  # of a store that sorts by the first digits of a hash
_SHOWN = 6


def split_said(path: str) -> SplitName | None:
    """Return the split that a word of a file's name says, else of the nearest folder with such a word.

    None where there is no such word, or where the nearest part with one has words of several splits.
    """
    for part in reversed(path.split("/")):
        meant = {SPLIT_NAMES[word] for word in re.findall(r"[a-z]+", part.casefold()) if word in SPLIT_NAMES}
        if meant:
            return meant.pop() if len(meant) == 1 else None
    return None


@dataclass(frozen=True)
class Layout:
    """The meaning of the folders.

    Attributes:
        splits: folder at the top -> split; None where the source has no splits.
        labels: which folder below the split is the class: none, the first, or the last.
        sentences: what was understood, in words.
    """

    splits: Mapping[str, SplitName] | None
    labels: Labels
    sentences: tuple[str, ...] = ()

    def place(self, name: str) -> tuple[str | None, str | None, tuple[str, ...]] | None:
        """Return split, label and the folders between the class and the file, or None outside all splits.

        Args:
            name: path below the root, parts joined by "/".
        """
        *folders, _ = name.split("/")
        split: str | None = None
        labels = self.labels
        if self.splits is not None:
            meant = self.splits.get(folders[0]) if folders else None
            if meant is None:
                return None
            split, folders = meant, folders[1:]
            if meant == UNLABELLED:
                split, labels = "train", "none"
        if labels == "none" or not folders:
            return split, None, tuple(folders)
        return (
            (split, folders[0], tuple(folders[1:]))
            if labels == "folders"
            else (split, folders[-1], tuple(folders[:-1]))
        )


def understand(
    names: Sequence[str],
    root: Path | str,
    layout: Literal["auto", "splits", "classes", "flat"] = "auto",
    labels: Literal["auto", "none", "folders", "parent"] = "auto",
    named_splits: Mapping[str, SplitName] | None = None,
    grouped: bool = False,
    way_down: str = "set source.root to that folder instead",
) -> Layout:
    """Read the folders' names as the options say, or as only one reading is possible.

    Args:
        names: paths of the images below the root, parts joined by "/".
        root: for messages.
        layout: `source.options.layout`.
        labels: `source.options.labels`.
        named_splits: `source.options.splits`.
        grouped: whether folders below the class are groups, which explains folders in several levels.
        way_down: tells how to leave out a folder that holds everything, the end of a sentence.

    Raises:
        SourceError: the names can be read in several ways; it names the parameter that decides.
    """
    splits = _splits(names, root, layout, named_splits or {})
    if layout == "flat":
        return Layout(None, "none", ("Folders mean nothing (layout: flat): there are no labels.",))
    if labels != "auto":
        found: Labels = labels
        said = _said_by(labels)
    elif layout == "classes":
        found, said = "folders", _said_by("folders")
    else:
        found, said = _labels(names, root, splits, grouped, way_down)
    sentences = [] if splits is None else [_said_of_splits(names, splits)]
    return Layout(splits, found, (*sentences, *said))


def _splits(
    names: Sequence[str], root: Path | str, layout: str, named: Mapping[str, SplitName]
) -> dict[str, SplitName] | None:
    """Return what each folder at the top is, as far as it is a split; None where none is."""
    tops = Counter(name.partition("/")[0] for name in names if "/" in name)
    missing = sorted(set(named) - set(tops))
    if missing:
        raise SourceError(
            "source.options.splits names folders that are not there",
            where=root,
            found=f"{_list(missing)}; at the top are {_list(sorted(tops))}",
            fix="Correct the names in params.yaml; they are compared as they are written.",
        )
    if layout in ("classes", "flat"):
        return None
    splits: dict[str, SplitName] = {top: SPLIT_NAMES[top.casefold()] for top in tops if top.casefold() in SPLIT_NAMES}
    splits |= named
    _check_twins(splits, named, root)
    others = sorted(set(tops) - set(splits))
    if layout == "splits" or (splits and not others):
        return splits
    alike = {top: split for top in others if (split := _resembles(top)) is not None}
    if splits or _are_split_names(alike, len(tops)):
        raise _question_of_splits(tops, splits, alike, root)
    return None


def _check_twins(splits: Mapping[str, SplitName], named: Mapping[str, SplitName], root: Path | str) -> None:
    """Refuse two folders that would become one split by their own names."""
    for split in ("train", "val", "test"):
        twins = sorted(top for top, meant in splits.items() if meant == split and top not in named)
        if len(twins) > 1:
            raise SourceError(
                f"several folders have the name of the split {split}",
                where=root,
                found=_list(twins),
                fix="Say in source.options.splits in params.yaml what each of them is, for instance "
                f"{{{', '.join(f'{twin}: {split}' for twin in twins)}}} (train, val, test or unlabelled).",
            )


def _resembles(name: str) -> SplitName | None:
    """Return the split whose name is a word of a folder's name (training_set, val2017), if it is only one."""
    words = [word for word in re.split(r"[^a-z]+", name.casefold()) if word]
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def _are_split_names(alike: Mapping[str, SplitName], tops: int) -> bool:
    """Tell whether folders are so much like splits that classes are unlikely: train_station is a class among many."""
    return "train" in alike.values() and len(set(alike.values())) > 1 and 2 * len(alike) > tops


def _question_of_splits(
    tops: Counter[str], splits: Mapping[str, SplitName], alike: Mapping[str, SplitName], root: Path | str
) -> SourceError:
    others = sorted(set(tops) - set(splits) - set(alike))
    parts = [
        f"{words} {_list([f'{top} ({tops[top]:,})' for top in sorted(chosen)])}"
        for words, chosen in (("splits by name:", splits), ("like splits:", alike), ("others:", others))
        if chosen
    ]
    named = {**alike, **({others[0]: "train"} if others and not alike else {})}
    example = ", ".join(f"{_yaml(top)}: {split}" for top, split in list(named.items())[:_SHOWN])
    return SourceError(
        "some folders at the top have names of splits, and it is not clear what the others are",
        where=root,
        found="; ".join(parts),
        fix=f"Say what they are with source.options.splits in params.yaml, for instance {{{example}}} (train, val, "
        "test or unlabelled); or with source.options.layout: `splits` leaves the others out, `classes` takes all of "
        "them as classes, `flat` gives folders no meaning.",
    )


def _labels(
    names: Sequence[str], root: Path | str, splits: Mapping[str, SplitName] | None, grouped: bool, way_down: str
) -> tuple[Labels, tuple[str, ...]]:
    """Decide whether folders are classes, where the options leave it open."""
    below: dict[str, Counter[int]] = {}  # split folder -> depth below it -> images
    firsts: set[str] = set()
    lasts: set[str] = set()
    for name in names:
        *folders, _ = name.split("/")
        top = ""
        if splits is not None:
            top = folders[0] if folders else ""
            if splits.get(top, UNLABELLED) == UNLABELLED:
                continue
            folders = folders[1:]
        below.setdefault(top, Counter())[len(folders)] += 1
        if folders:
            firsts.add(folders[0])
            lasts.add(folders[-1])
    depths = {depth for counts in below.values() for depth in counts}
    if depths <= {0}:
        return "none", ("There are no folders of classes: there are no labels.",)
    if any(len(counts) > 1 and 0 in counts for counts in below.values()):
        raise _question_of_labels(
            "some images lie in folders and some beside them", names, firsts, lasts, root, splits, way_down
        )
    if depths - {0, 1}:
        if grouped:  # the parameter says what the folders below the class are
            return "folders", _said_by("folders")
        raise _question_of_labels("images lie several folders deep", names, firsts, lasts, root, splits, way_down)
    only = next(iter(firsts))
    if len(firsts) == 1 and (_OTHER.fullmatch(only) or only.casefold() in _CONTAINERS):
        said = f"All images lie in a folder '{printable(only, 80)}', which is no class (labels: folders makes it one)."
        return "none", (said,)
    if _sorted_by_something_else(firsts):
        what = "the folders' names look like dates, devices, parts or annotations"
        raise _question_of_labels(what, names, firsts, lasts, root, splits, way_down)
    return "folders", _said_by("folders")


def _sorted_by_something_else(folders: set[str]) -> bool:
    if all(_OTHER.fullmatch(name) for name in folders):
        return True
    hexadecimal = all(_FAN_OUT.fullmatch(name) for name in folders) and len({len(name) for name in folders}) == 1
    return hexadecimal and any(not name.isdigit() for name in folders)


def _question_of_labels(
    what: str,
    names: Sequence[str],
    firsts: set[str],
    lasts: set[str],
    root: Path | str,
    splits: Mapping[str, SplitName] | None,
    way_down: str,
) -> SourceError:
    deepest = max(names, key=lambda name: (name.count("/"), name))
    found = (
        f"for instance {deepest}; as classes, the first folders would give {len(firsts):,} ({_list(sorted(firsts))})"
    )
    if lasts != firsts:
        found += f", the last folders {len(lasts):,} ({_list(sorted(lasts))})"
    advice = ""
    if splits is None and len(firsts) == 1 and all("/" in name for name in names):
        advice = f" If everything belongs into {next(iter(firsts))!r}, {way_down}."
    return SourceError(
        f"it is not clear whether folders are classes: {what}",
        where=root,
        found=found,
        fix="Set source.options.labels in params.yaml: `none` (the images have no labels), `folders` (the first folder "
        f"is the class) or `parent` (the last one is).{advice}",
    )


def _said_by(labels: Labels) -> tuple[str, ...]:
    return (
        {
            "none": "Folders are no classes: there are no labels (labels: none).",
            "folders": "The first folder is the class.",
            "parent": "The last folder is the class (labels: parent).",
        }[labels],
    )


def _said_of_splits(names: Sequence[str], splits: Mapping[str, SplitName]) -> str:
    counts = Counter(name.partition("/")[0] for name in names if "/" in name)
    parts = [f"{printable(top, 80)}/ is {split} ({counts[top]:,} files)" for top, split in sorted(splits.items())]
    return f"Folders at the top are splits: {', '.join(parts)}." if parts else "No folder at the top is a split."


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name, 80) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown


def _yaml(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w-]*", name) else f'"{printable(name, 80)}"'
