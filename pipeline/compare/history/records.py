"""Small JSON files, one a night, whose loss costs the memory of that night only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from reprise.storage.atomic import write_json

MOST = 500  # files, more than a year of nights; the oldest are removed
T = TypeVar("T")


def store_record(folder: Path, ended: datetime, content: Mapping[str, Any]) -> Path:
    """Write what is known of a run, with the time at which it ended, and remove the oldest files of too many.

    Args:
        folder: of the files; it is made.
        ended: when the run ended, with a zone.
        content: JSON data.
    """
    moment = ended.astimezone(UTC)
    path = folder / f"{moment:%Y%m%dT%H%M%SZ}.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {"ended": moment.isoformat(timespec="seconds"), **content})
    for old in sorted(folder.glob("*.json"))[:-MOST]:
        old.unlink(missing_ok=True)
    return path


def read_records(
    folder: Path, largest: int, read: Callable[[datetime, Mapping[str, Any]], T]
) -> tuple[list[T], list[str]]:
    """Return what the files hold, in the order of their names, and the names of files that cannot be read.

    Args:
        folder: of the files; it need not exist.
        largest: bytes of a file.
        read: makes a result of the time at which a run ended and of the whole content.
    """
    found, unreadable = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            if path.stat().st_size > largest:
                raise ValueError("too large")
            content = json.loads(path.read_text(encoding="utf-8"))
            ended = datetime.fromisoformat(content["ended"])
            if ended.tzinfo is None:
                raise ValueError("a time without a zone")
            found.append(read(ended, content))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            unreadable.append(path.name)
    return found, unreadable
