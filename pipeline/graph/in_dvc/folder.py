"""Keep checkouts inside the outputs that they fill."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from dvc.exceptions import DvcException

from pipeline.graph.in_dvc.cache import CheckedCache


def refuse_links_in(folder: str, names: Iterable[tuple[str, ...]]) -> None:
    """Refuse to fill a folder through a symbolic link that lies in it.

    Args:
        folder: the output.
        names: the parts of each name below it.

    Raises:
        DvcException: a folder on the way to one of the names is a symbolic link.
    """
    for above in sorted({parts[:length] for parts in names for length in range(1, len(parts))}):
        path = os.path.join(folder, *above)
        if os.path.islink(path):
            raise DvcException(
                f"'{path}' is a symbolic link, and files are to be written through it to {os.path.realpath(path)}. "
                "Remove the link and try again."
            )


def check_before_checkout(checkout: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `Output._checkout`, which fills one output."""

    def checked(self: Any, path: str, fs: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        if obj is not None and hasattr(obj, "as_dict"):
            refuse_links_in(path, obj.as_dict())
        return checkout(self, path, fs, obj, *args, **kwargs)

    return checked


def check_before_creation(create: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `_create_files` of dvc_data.index.checkout, which fills all outputs of `dvc checkout`."""

    def checked(entries: Any, index: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        entries = list(entries)
        by_cache: dict[CheckedCache, list[str]] = {}
        names: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for entry in entries if index is not None else ():
            storage = index.storage_map[entry.key]
            odb = getattr(storage.cache, "odb", None)
            if isinstance(odb, CheckedCache) and entry.hash_info:
                by_cache.setdefault(odb, []).append(entry.hash_info.value)
                top = tuple(storage.cache.key)
                names.setdefault(top, []).append(tuple(entry.key)[len(top) :])
        for odb, oids in by_cache.items():
            odb.refuse_altered(oids)  # those that differ are now missing, and DVC says so
        for top, below in names.items():
            refuse_links_in(os.path.join(path, *top), below)
        return create(entries, index, path, *args, **kwargs)

    return checked
