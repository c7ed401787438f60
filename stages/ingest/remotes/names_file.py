"""Read the list of names that a source is given because a web server has none."""

from __future__ import annotations

import io
from pathlib import Path
from urllib.parse import unquote

from reprise.config.errors import ImageRefused, SourceError
from reprise.config.texts.addresses import Address, is_address, parse_address, problem_of
from reprise.storage.listing import read_regular
from reprise.storage.stores.in_order import patiently
from reprise.storage.stores.store import Settings, open_store

_LONGEST = 1 << 30  # bytes of the list


def read_names_file(place: str, root: Address, settings: Settings) -> list[str]:
    """Return the names below the root that a text file lists, one a line.

    Args:
        place: path or address of the file.
        root: lines that begin with it are whole addresses, whose percent signs are undone.
        settings: how to ask, if it is an address.

    Raises:
        SourceError: it cannot be read, is not UTF-8, names nothing, or names something twice.
    """
    try:
        data = _fetched(place, settings) if is_address(place) else read_regular(Path(place), _LONGEST)
        lines = [line.strip() for line in data.decode("utf-8-sig").split("\n")]
    except ImageRefused as refusal:
        raise _wrong("the list of names cannot be read", place, refusal.found) from refusal
    except UnicodeDecodeError as error:
        raise _wrong("the list of names is not UTF-8", place, error) from error
    prefix = f"{root}/"
    names = [unquote(line.removeprefix(prefix)) if line.startswith(prefix) else line for line in lines if line]
    foreign = next((name for name in names if is_address(name)), None)
    if foreign is not None:
        raise _wrong(f"the list of names holds an address that does not begin with {prefix}", place, foreign)
    if not names:
        raise _wrong("the list of names is empty", place, "no line")
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _wrong("the list of names holds a name twice", place, twice)
    return names


def _fetched(place: str, settings: Settings) -> bytes:
    if problem := problem_of(place):
        raise _wrong(problem[0], "source.options.names", place)
    store = open_store(parse_address(place), settings)
    (item,) = store.describe([""])
    if item.problem:
        raise _wrong("the list of names cannot be read", place, item.detail)
    buffer = io.BytesIO()

    def once() -> None:
        buffer.seek(0)
        buffer.truncate()
        store.fetch(item, _LONGEST, buffer.write)

    patiently(once, settings, place)
    return buffer.getvalue()


def _wrong(what: str, where: object, found: object) -> SourceError:
    fix = "Correct source.options.names: a text file in UTF-8 with one name below source.root a line."
    return SourceError(what, where=where, found=found, fix=fix)
