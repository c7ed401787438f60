"""Tars that lie in a store: fetched whole, held against their length and hash, and kept within a bound.

What a reader asks for is fetched when it is asked for. What it will ask for is fetched by other threads meanwhile:
where it says so (`expect`), or else the next tar where it goes through them in their order.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, ClassVar

from reprise.artifacts.tars.explained import reading_error
from reprise.artifacts.tars.table import FILE, FIX, FarTable, FarTar
from reprise.config.errors import ImageRefused, RepriseError, ShardError, SourceError
from reprise.config.stores import FarParams
from reprise.config.texts.addresses import Address, parse_address
from reprise.storage.atomic import storage_error
from reprise.storage.stores.bounded import Bounded
from reprise.storage.stores.in_order import patiently
from reprise.storage.stores.store import ANY, Object, Settings, Store, changed, open_store

CACHE = Path(".reprise/far")
_MOST_THREADS = 8  # that fetch ahead
_BACK = (
    "Put the object back, let cache.far.read_from name a place that has it, or run `dvc repro --force shard`, which "
    "packs and sends the images again."
)


def settings_of(params: FarParams) -> Settings:
    """Make settings of stores of the block `cache.far`."""
    p = params
    return Settings(p.endpoint, p.anonymous, p.timeout, p.threads, p.attempts, options="cache.far")


def place_of(written: Address, params: FarParams) -> Address:
    """Return the address below which this machine reads tars."""
    return written if params.read_from is None else parse_address(params.read_from)


class FarTars:
    """Reads tars of a store through a bounded cache on the disk; safe to share between threads and processes.

    Attributes:
        directory: of the index.
        far: True.
        max_bytes: of the cache.
    """

    far: ClassVar[bool] = True

    def __init__(self, directory: Path, table: FarTable, params: FarParams, folder: Path = CACHE) -> None:
        self.directory, self.max_bytes = directory, params.max_bytes
        self._table, self._params, self._folder = table, params, folder
        self._cache = Bounded(folder, params.max_bytes)
        self._names = sorted(table.tars)
        self._number = {name: number for number, name in enumerate(self._names)}
        self._last = -2  # number of the tar that was read last
        self._stated = False  # whether the reader says what it will read
        self._lock = threading.Lock()
        self._opened: Store | None = None
        self._wanted: SimpleQueue[str | None] | None = None  # by the threads that fetch ahead

    def __getstate__(self) -> dict[str, object]:
        # Connections, threads and locks do not cross to another process.
        return {"directory": self.directory, "table": self._table, "params": self._params, "folder": self._folder}

    def __setstate__(self, state: dict[str, object]) -> None:
        FarTars.__init__(self, **state)  # type: ignore[arg-type]

    def size(self, name: str) -> int:
        """Return the length of a tar."""
        return self._table.tars[name].bytes

    def where(self, name: str) -> str:
        """Return where a tar lies, for people."""
        place = place_of(self._table.store, self._params)
        return f"{self.directory / name}, which is {place}/{self._table.tars[name].object}"

    def _copy_of(self, name: str) -> str:
        """Return where the copy of a tar lies, for people: what the system refuses is refused there."""
        return f"{self._folder / self._table.tars[name].sha256}, the copy of {self.where(name)}"

    def read(self, name: str, size: int, offset: int) -> bytes:
        """Return bytes of a tar; never fewer, since its length is that of the table.

        Raises:
            ShardError: the store has no such tar, or another one. MachineError: the store does not answer.
        """
        number = self._number[name]
        if number != self._last:
            follows, self._last = number == self._last + 1, number
            if follows and not self._stated and number + 1 < len(self._names):
                self._bring([self._names[number + 1]])
        try:
            descriptor = self._open(name)
            try:
                return os.pread(descriptor, size, offset)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise reading_error(error, self._copy_of(name), FIX) from error

    def check(self, needed: Mapping[str, int]) -> None:
        """Compare the lengths that the table states with what an index needs; no tar is asked for.

        Raises:
            ShardError: a tar is not in the table, or shorter.
        """
        for name, size in sorted(needed.items()):
            where, tar = self.directory / FILE, self._table.tars.get(name)
            if tar is None:
                raise ShardError("a shard is missing", where=where, found=f"no {name}", fix=FIX)
            if tar.bytes < size:
                found = f"{name} of {tar.bytes} bytes, at least {size} are needed"
                raise ShardError("a shard is truncated", where=where, found=found, fix=FIX)

    def expect(self, names: Sequence[str]) -> None:
        """Fetch tars in other threads, in this order, unless they are here.

        An error is not raised: it returns when the tar is read. From now on no tar is fetched because it is the next
        one: of shuffled images, some follow each other by chance.
        """
        self._stated = True
        self._bring(names)

    def let_go(self, names: Sequence[str]) -> None:
        """Let tars make room for others before those that were used longer ago."""
        for name in names:
            self._cache.let_go(self._table.tars[name].sha256)

    def _bring(self, names: Sequence[str]) -> None:
        missing = [name for name in names if not self._cache.holds(self._table.tars[name].sha256)]
        if not missing:
            return
        with self._lock:
            if self._wanted is None:
                self._wanted = SimpleQueue()
                count = min(_MOST_THREADS, self._params.threads)
                weakref.finalize(self, _end, self._wanted, count)
                for _ in range(count):
                    # They end with this object or the process: what they leave half-written is removed by whoever
                    # needs room.
                    arguments = (weakref.ref(self), self._wanted)
                    threading.Thread(target=_fetch_ahead, args=arguments, daemon=True).start()
        for name in missing:
            self._wanted.put(name)

    def close(self) -> None:
        """Do nothing: no tar is kept open."""

    def _open(self, name: str) -> int:
        tar = self._table.tars[name]
        if tar.bytes > self.max_bytes:
            raise ShardError(
                "a shard is larger than the cache of fetched shards",
                where=self.where(name),
                found=f"{tar.bytes:,} bytes, and cache.far.max_bytes is {self.max_bytes:,}",
                fix="Raise cache.far.max_bytes; a training needs room for two windows (train.window_bytes).",
            )
        return self._cache.open(tar.sha256, tar.bytes, lambda file: self._fetch(name, tar, file))

    def _fetch(self, name: str, tar: FarTar, file: IO[bytes]) -> None:
        """Fetch a tar into a file that has its length, and hold it against length and hash.

        Other bytes are fetched once more, because they may have been spoilt on the way.
        """
        store, where = self._store(), self.where(name)
        try:
            for _ in range(2):
                if patiently(lambda: _fetched(store, tar, file), store.settings, where) == tar.sha256:
                    return
        except ImageRefused as refusal:
            what, found = _seen(store, tar, refusal)
            raise ShardError(what, where=where, found=found, fix=_BACK) from refusal
        except SourceError as error:
            raise ShardError(error.what, where=where, found=error.found, fix=error.fix) from error
        raise ShardError(
            "the store has other bytes than those of the shard",
            where=where,
            found=f"{tar.bytes:,} bytes, twice, whose SHA-256 is not the one of data/shards",
            fix=_BACK,
        )

    def _store(self) -> Store:
        with self._lock:
            if self._opened is None:
                place = place_of(self._table.store, self._params)
                self._opened = open_store(place, settings_of(self._params))
            return self._opened


def _fetch_ahead(reader: weakref.ref[FarTars], wanted: SimpleQueue[str | None]) -> None:
    """Fetch what is wanted, in a thread that does not keep the reader alive while it waits."""
    while (name := wanted.get()) is not None:
        tars = reader()
        if tars is None:
            return
        with suppress(RepriseError, OSError):
            os.close(tars._open(name))  # noqa: SLF001
        del tars


def _end(wanted: SimpleQueue[str | None], threads: int) -> None:
    for _ in range(threads):
        wanted.put(None)


def _fetched(store: Store, tar: FarTar, file: IO[bytes]) -> str:
    """Write an object into a file, and return the SHA-256 of its bytes."""
    digest, size = hashlib.sha256(), 0
    file.seek(0)

    def write(piece: bytes) -> None:
        nonlocal size
        digest.update(piece)
        size += len(piece)
        if size > tar.bytes:
            return  # the store says so itself
        try:
            file.write(piece)
        except OSError as error:  # of the disk, which no further attempt mends
            raise storage_error(error, file.name) from error

    store.fetch(Object(tar.object, tar.bytes, ANY), tar.bytes, write)
    if size != tar.bytes:
        raise changed(store.shown(tar.object), f"{size:,} bytes instead of {tar.bytes:,}")
    return digest.hexdigest()


def _seen(store: Store, tar: FarTar, refusal: ImageRefused) -> tuple[str, str]:
    """Look at an object that was refused, and say what is wrong with it."""
    try:
        item = store.look(tar.object)
    except RepriseError:
        return "a shard cannot be read from its store", refusal.found
    if item.problem:
        return "a shard is missing from its store, or cannot be read there", item.detail
    if item.size is not None and item.size < tar.bytes:
        return "a shard is truncated in its store", f"{item.size:,} of {tar.bytes:,} bytes"
    if item.size is not None and item.size > tar.bytes:
        return "the store has another file in place of a shard", f"{item.size:,} bytes instead of {tar.bytes:,}"
    return "a shard cannot be read from its store", refusal.found
