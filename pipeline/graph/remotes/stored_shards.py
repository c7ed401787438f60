"""Shards that lie in a store (`shard.store`): are they there, and as long as data/shards says? Can it be written?

Their bytes are not read: every reader holds them against their hash before it uses them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from reprise.artifacts.layout import SHARDS
from reprise.artifacts.tars.far import CACHE, place_of, settings_of
from reprise.artifacts.tars.table import FarTar, read_far
from reprise.config.errors import RepriseError, SourceError
from reprise.config.params import PARAMS_FILE, read_yaml
from reprise.config.shared_sections import cache_params
from reprise.config.texts.addresses import Address, parse_address, problem_of
from reprise.storage.atomic import storage_error
from reprise.storage.stores.in_order import in_order, patiently
from reprise.storage.stores.store import ANY, Object, Settings, Store, open_store

_SHORT = 5.0  # seconds of silence, where nobody wants to wait


@dataclass(frozen=True)
class StoredShards:
    """The shards of a project.

    Attributes:
        place: the address from which this machine reads them.
        settings: how it is asked.
        tars: by file name.
        here: bytes that were fetched and are kept.
    """

    place: Address
    settings: Settings
    tars: dict[str, FarTar]
    here: int

    @property
    def size(self) -> int:
        """Bytes of all tars."""
        return sum(tar.bytes for tar in self.tars.values())

    def first_problem(self) -> str | None:
        """Ask once for one tar; None where it is there.

        Raises:
            RepriseError: the store does not answer, or refuses.
        """
        store = open_store(self.place, replace(self.settings, attempts=1, timeout=min(_SHORT, self.settings.timeout)))
        return next(filter(None, (_problem(store, name, tar) for name, tar in sorted(self.tars.items())[:1])), None)

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each tar that is missing or has another length.

        Raises:
            RepriseError: the store does not answer, or refuses.
        """
        store = open_store(self.place, self.settings)
        yield from filter(None, in_order(lambda item: _problem(store, *item), sorted(self.tars.items()), self.settings))


def stored_shards(root: Path) -> StoredShards | None:
    """Look for shards of a project that lie in a store; None where data/shards holds the tars, or nothing.

    Raises:
        RepriseError: data/shards or params.yaml cannot be read.
    """
    table = read_far(root / SHARDS)
    if table is None:
        return None
    params = cache_params(read_yaml(root / PARAMS_FILE)).far
    folder = root / CACHE
    here = sum(p.stat().st_size for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else 0
    return StoredShards(place_of(table.store, params), settings_of(params), table.tars, here)


def try_store(root: Path) -> tuple[Address | None, bool]:
    """Write a small object of its own into `shard.store`, read it back and remove it.

    Returns:
        The address, None where params.yaml names no store; and whether it was tried. A folder that does not exist is
        not: the trial would make it, although its disk may only not be mounted.

    Raises:
        RepriseError: the store cannot be written, read or deleted from.
    """
    raw = read_yaml(root / PARAMS_FILE) if (root / PARAMS_FILE).exists() else {}
    section = raw.get("shard")
    named = section.get("store") if isinstance(section, dict) else None
    if not isinstance(named, str) or problem_of(named):  # `reprise check` refuses what is no section, or no address
        return None, False
    address, settings = parse_address(named), settings_of(cache_params(raw).far)
    if address.protocol == "file" and not os.path.lexists(address.place):
        return address, False
    store = open_store(address, replace(settings, attempts=1, timeout=min(_SHORT, settings.timeout)))
    try:
        _try(store)
    except OSError as error:  # a share that is gone says what no other write does
        raise storage_error(error, address) from error
    return address, True


def _try(store: Store) -> None:
    name = f".reprise-doctor-{uuid4().hex}"
    content = name.encode()

    def once(act: Callable[[], None]) -> None:
        patiently(act, store.settings, store.shown(name))

    with TemporaryDirectory() as folder:
        path = Path(folder, "object")
        path.write_bytes(content)
        once(lambda: store.send(name, path, hashlib.sha256(content).hexdigest()))
    pieces: list[bytes] = []
    try:
        once(lambda: store.fetch(Object(name, len(content), ANY), len(content), pieces.append))
    finally:
        once(lambda: store.remove(name))
    if b"".join(pieces) != content:
        raise SourceError(
            "the store gives back other bytes than were written",
            where=store.shown(name),
            found=f"{sum(map(len, pieces))} bytes",
            fix="Choose another store for shard.store.",
        )


def problems_of_store(root: Path) -> list[str]:
    """Return a sentence for each tar in a store that is not there as it should be, or one for the store itself."""
    try:
        stored = stored_shards(root)
        return [] if stored is None else list(stored.problems())
    except RepriseError as error:
        return [str(error)]


def _problem(store: Store, name: str, tar: FarTar) -> str | None:
    item = store.look(tar.object)
    if item.problem:
        return f"{name}: {store.shown(tar.object)} cannot be read: {item.detail}"
    if item.size is not None and item.size != tar.bytes:
        return f"{name}: {store.shown(tar.object)} has {item.size:,} bytes instead of {tar.bytes:,}"
    return None
