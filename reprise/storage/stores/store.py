"""What all stores have in common: objects with a version, listed without being read, and fetched one by one."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reprise.config.errors import ImageRefused, SourceError
from reprise.config.texts.addresses import Address

_SLOWEST = 1024  # bytes a second
ANY = "*"  # in place of a version: whatever the store has now; for objects whose bytes are held against a hash


@dataclass(frozen=True, slots=True)
class Object:
    """An object of a store.

    Attributes:
        name: its path below the prefix, as the store has it.
        size: in bytes; None where the store does not say.
        version: what changes with the content (ETag, generation, time of modification); empty where the store does
            not say.
        problem: why it cannot be fetched, as the listing shows it: a code of docs/reference/data-rules.md.
        detail: the same as a sentence.
    """

    name: str
    size: int | None
    version: str
    problem: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Settings:
    """How a store is asked.

    Attributes:
        endpoint: of a server that speaks S3; None for Amazon's.
        anonymous: ask without credentials.
        timeout: seconds that a server may stay silent.
        threads: requests at once.
        attempts: at each request.
        stop: set when nobody waits for answers any more.
        options: the block of params.yaml that these come from, for messages.
    """

    endpoint: str | None = None
    anonymous: bool = False
    timeout: float = 30.0
    threads: int = 16
    attempts: int = 5
    stop: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)
    options: str = "source.options"


class UnreachableError(Exception):
    """The network or the server failed, so that trying again may help.

    Attributes:
        found: what happened, without anything that the server or a library wrote: that may hold credentials.
        wait: seconds that the server asks for.
    """

    def __init__(self, found: str, wait: float = 0.0) -> None:
        super().__init__(found)
        self.found, self.wait = found, wait


class Pace:
    """Notices an answer that comes so slowly that it might never end.

    Args:
        timeout: seconds that an answer may take at any pace.
    """

    def __init__(self, timeout: float) -> None:
        self._began, self._timeout, self._bytes = time.monotonic(), timeout, 0

    def add(self, size: int) -> int:
        """Count bytes, and return their sum.

        Raises:
            UnreachableError: they are fewer than _SLOWEST a second.
        """
        self._bytes += size
        seconds = time.monotonic() - self._began
        if seconds > self._timeout and self._bytes < _SLOWEST * seconds:
            raise UnreachableError(f"the answer has fewer than {_SLOWEST:,} bytes a second")
        return self._bytes


class Store(ABC):
    """Objects below an address.

    Args:
        address: the prefix.
        settings: how to ask.
    """

    def __init__(self, address: Address, settings: Settings) -> None:
        self.address, self.settings = address, settings

    @abstractmethod
    def listing(self) -> Iterator[Object]:
        """Yield all objects below the address, in the store's order, with sizes and versions, reading none.

        Raises:
            UnreachableError: the store does not answer. SourceError: it refuses.
        """

    def describe(self, names: Sequence[str]) -> Iterator[Object]:
        """Yield objects by their names below the address, in this order, with sizes and versions.

        Raises:
            MachineError: the store does not answer.
        """
        from reprise.storage.stores.in_order import in_order

        yield from in_order(self.look, names, self.settings)

    @abstractmethod
    def fetch(self, item: Object, limit: int, write: Callable[[bytes], object]) -> None:
        """Write the content of an object as it was listed, piece by piece.

        Args:
            item: the object.
            limit: largest length in bytes.
            write: takes the pieces in their order.

        Raises:
            UnreachableError: the store does not answer, or ends too early.
            ImageRefused: `changed_while_reading`, `unreadable`, `redirected` or `too_many_bytes`.
        """

    def look(self, name: str) -> Object:
        """Ask for the length and the version of one object; requests of other threads go on meanwhile.

        Raises:
            MachineError: the store does not answer.
        """
        from reprise.storage.stores.in_order import patiently

        return patiently(lambda: self.look_once(name), self.settings, self.shown(name))

    @abstractmethod
    def look_once(self, name: str) -> Object:
        """Ask once for the length and the version of one object.

        Raises:
            UnreachableError: the store does not answer.
        """

    def send(self, name: str, path: Path, sha256: str) -> None:
        """Write a file as a new object, which appears whole or not at all.

        Args:
            name: of the object, which is not there yet.
            path: the file.
            sha256: of its bytes, in hexadecimal, for the store to compare.

        Raises:
            UnreachableError: the store does not answer. SourceError: it refuses, or cannot be written at all.
        """
        raise SourceError(
            "a web server can be read and not written",
            where=self.shown(name),
            found=f"an address that begins with {self.address.protocol}://",
            fix="Set shard.store to the folder or bucket that the server shows, and cache.far.read_from to the server.",
        )

    def remove(self, name: str) -> None:
        """Remove an object that this process has written.

        Raises:
            UnreachableError: the store does not answer. SourceError: it refuses.
        """
        raise NotImplementedError  # of a store that cannot be written

    def shown(self, name: str) -> str:
        """Return the name of an object for people."""
        return f"{self.address}/{name}" if name else str(self.address)


def open_store(address: Address, settings: Settings) -> Store:
    """Make the store of an address.

    Raises:
        SourceError: what reads it is not installed.
    """
    if address.protocol in ("http", "https"):
        from reprise.storage.stores.http_store import HttpStore

        return HttpStore(address, settings)
    if address.protocol == "s3":
        from reprise.storage.stores.s3_store import S3Store

        return S3Store(address, settings)
    if address.protocol == "file":
        from reprise.storage.stores.file_store import FileStore

        return FileStore(address, settings)
    from reprise.storage.stores.other_store import OtherStore

    return OtherStore(address, settings)


def changed(where: str, found: str) -> ImageRefused:
    """Make the refusal of an object that is not the one that was listed."""
    return ImageRefused("changed_while_reading", where=where, found=found, fix="Run again when nobody writes to it.")


def unreadable(where: str, found: str) -> ImageRefused:
    """Make the refusal of an object that the store does not give."""
    return ImageRefused("unreadable", where=where, found=found, fix="Check its permissions and its name.")


def not_installed(address: Address, package: str) -> SourceError:
    """Make the error for a store whose package is missing."""
    return SourceError(
        f"addresses that begin with {address.protocol}:// need a package that is not installed",
        where=address,
        found="no such package",
        fix=f"Install it: `pip install {package}`.",
    )


def nothing_there(address: Address) -> SourceError:
    """Make the error for a prefix without objects."""
    return SourceError(
        "there is nothing at this address",
        where=address,
        found="no objects",
        fix="Correct source.root in params.yaml.",
    )
