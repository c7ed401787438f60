"""What a cell means: pure functions from a value of CSV, Parquet or Arrow to a label, a number, a caption, ...

A cell of CSV is a text, and an empty one is unknown. Null is unknown in Parquet and Arrow, and so is a number that is
not a number. What does not fit is refused with a clause that says the rule; nothing is rounded or cut off.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from reprise.config.errors import printable
from reprise.media.text.rules import LONGEST_CAPTION, LONGEST_WORD, MOST_CAPTIONS, problem_of_text, problem_of_word

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1}
_SHOWN = 80


class BadCell(ValueError):
    """A cell that breaks a rule; its text is a clause."""


def is_empty(value: Any) -> bool:
    """Tell whether a cell says nothing."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def name_of(value: Any, names: Sequence[str] = ()) -> str | None:
    """Read the name of a class or a group.

    Args:
        value: a text, a whole number, or true or false.
        names: of the classes, if the column holds their numbers, as numbers or as texts; -1 then means unknown, and
            nothing else is a class.

    Raises:
        BadCell: it is no name.
    """
    if is_empty(value):
        return None
    if names:
        number = _whole_number(value)
        if number == -1:
            return None
        if number is None or not 0 <= number < len(names):
            raise _bad(f"the number of a class is 0 to {len(names) - 1}", value)
        text = names[number]
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, int | str):
        text = str(value)
    elif isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        text = str(int(value))
    else:
        raise _bad("a name is a text or a whole number", value)
    if problem := problem_of_word(text):
        raise _bad(f"a name is a text of 1 to {LONGEST_WORD} characters without control characters ({problem})", text)
    return text


def _whole_number(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if _WHOLE.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return int(value) if math.isfinite(value) and value == int(value) else None


def number_of(value: Any) -> float:
    """Read a finite number.

    Raises:
        BadCell: it is none.
    """
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    try:
        number = float(value) if isinstance(value, int | float | Decimal) else math.nan
    except OverflowError:
        number = math.inf
    if math.isfinite(number):
        return number
    raise _bad("a number is finite", value)


def flag_of(value: Any) -> int:
    """Read 0 or 1, or false or true.

    Raises:
        BadCell: it is neither.
    """
    if isinstance(value, str) and value.strip().casefold() in _FLAGS:
        return _FLAGS[value.strip().casefold()]
    if isinstance(value, int | float) and value in (0, 1):
        return int(value)
    raise _bad("a flag is 0 or 1, or false or true", value)


def captions_of(value: Any) -> tuple[str, ...]:
    """Read a caption, or a list of them.

    Raises:
        BadCell: one of them is no text.
    """
    texts = tuple(value) if isinstance(value, list) else (value,)
    for text in texts:
        if problem := problem_of_text(text):
            rule = f"a caption is a text of 1 to {LONGEST_CAPTION} characters without control characters ({problem})"
            raise _bad(rule, text)
    if len(texts) > MOST_CAPTIONS:
        raise _bad(f"an image has at most {MOST_CAPTIONS} captions", len(texts))
    return texts


def pose_of(value: Any) -> list[float]:
    """Read a list of numbers.

    Raises:
        BadCell: it is none, or empty.
    """
    numbers = _listed(value)
    if not numbers:
        raise _bad("a pose is a list of numbers", value)
    return [number_of(number) for number in numbers]


def boxes_of(value: Any, form: str) -> list[tuple[float, float, float, float]]:
    """Read boxes as corners: x0, y0, x1, y1. One box may stand without a list around it.

    Args:
        value: a list, or JSON.
        form: `corners`, or `size` (x, y, width, height).

    Raises:
        BadCell: it is no list of four numbers each.
    """
    rows = _listed(value)
    if len(rows) == 4 and not any(isinstance(row, list) for row in rows):
        rows = [rows]
    boxes = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 4:
            raise _bad("boxes are rows of four numbers", row)
        x, y, right, down = (number_of(number) for number in row)
        if form == "size":
            right, down = x + right, y + down
        if not (0 <= x < right < math.inf and 0 <= y < down < math.inf):
            raise _bad("a box has a width and a height, and begins inside its image", row)
        boxes.append((x, y, right, down))
    return boxes


def labels_of(value: Any, separator: str | None, known: Mapping[str, str], names: Sequence[str] = ()) -> dict[str, int]:
    """Read several labels as flags: 1 for those that the cell names, 0 for the others.

    Args:
        value: a list, or a text with the separator between labels.
        separator: None for lists.
        known: flag -> label.
        names: of the classes, if lists hold their numbers.

    Raises:
        BadCell: a label is not known, or the cell has another form.
    """
    if separator is not None and isinstance(value, str):
        found = [part.strip() for part in value.split(separator)]
    elif separator is None and isinstance(value, list):
        found = [name_of(part, names) or "" for part in value]
    else:
        raise _bad("labels are a list, or a text with the separator that source.options.labels names", value)
    flags = dict.fromkeys(known, 0)
    by_label = {label: flag for flag, label in known.items()}
    for label in found:
        if label not in by_label:
            raise _bad("every label is one of source.options.labels.names", label)
        flags[by_label[label]] = 1
    return flags


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _bad("a list is written as JSON, such as [1, 2]", value) from None
    if not isinstance(value, list):
        raise _bad("a list is needed", value)
    return value


def _bad(rule: str, value: Any) -> BadCell:
    return BadCell(f"{rule}; found {printable(repr(value)[: 4 * _SHOWN], _SHOWN)}")
