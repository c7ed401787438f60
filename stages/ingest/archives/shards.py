"""Find the shards that a root means: a tar, a folder of them, a pattern with braces, or addresses of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from pathlib import Path
from urllib.parse import unquote

from reprise.config.errors import ImageRefused, SourceError
from reprise.config.texts.addresses import Address, expand_braces, is_address, parse_address, problem_of
from reprise.storage.listing import digest_entries
from reprise.storage.stores.in_order import in_order
from reprise.storage.stores.store import Object, Settings, Store, open_store
from reprise.storage.walk import LEFT_OUT, Entry, list_entries, root_error
from stages.ingest.archives.members import NESTED
from stages.ingest.remotes.kept import Kept
from stages.ingest.source import Extent, LeftOut, Refused
from stages.ingest.source_state import refuse_own_artifacts

_LARGEST = 1 << 44  # bytes of a shard
_NO_TAR = "it has no tar's name, and lies in a folder of shards"


@dataclass(frozen=True)
class Shard:
    """A shard that lies on this machine by now.

    Attributes:
        name: below the folder that all shards lie in; its words may say which split it is. Of an address it has at
            least two parts.
        shown: the same for messages.
        path: of the file.
        stays: whether it is the user's file, in which images can be left.
    """

    name: str
    shown: str
    path: str
    stays: bool


class LocalShards:
    """Shards on this machine.

    Args:
        root: a tar, a folder of tars, or a pattern of paths with braces.
    """

    def __init__(self, root: str) -> None:
        self._root = root

    def files(self) -> list[Entry]:
        """List the files, with those that are refused.

        Raises:
            SourceError: there are none, or one of the pattern is missing.
        """
        if os.path.isdir(self._root):
            refuse_own_artifacts(Path(self._root))
            return list_entries(self._root)
        paths = [self._root]
        if not os.path.lexists(self._root) and "{" in self._root:
            paths = _expanded(self._root)
        for path in paths:
            try:
                os.stat(path)
            except OSError as error:
                if len(paths) == 1:
                    raise root_error(path, error, "a shard (.tar), a pattern of shards, or a folder of them") from error
                raise SourceError(
                    "a shard of the pattern cannot be found",
                    where=self._root,
                    found=path,
                    fix="Correct the numbers in the braces, or fetch the shard.",
                ) from error
        return [Entry(os.fsencode(path), os.path.realpath(os.fsencode(path))) for path in paths]

    def extent(self) -> Extent:
        """Hash names and contents; unchanged files are not read again, and what is no tar is not read at all."""
        folder = os.path.isdir(self._root)
        entries = [
            replace(entry, reason="no_archive") if folder and _is_other(entry) else entry for entry in self.files()
        ]
        return Extent(*digest_entries(self._root, entries))

    def shards(self) -> Iterator[Shard | Refused | LeftOut]:
        """Yield the shards in their order, and what else lies in the folder."""
        folder, entries = os.path.isdir(self._root), self.files()
        above = 0 if folder else _common_folders([entry.text for entry in entries])
        for entry in entries:
            shown = os.path.join(self._root, entry.text) if folder else entry.text
            if entry.reason in ("hidden", "system_file"):
                yield LeftOut(shown, entry.reason, entry.detail)
            elif entry.reason is not None:
                yield Refused(shown, entry.reason, entry.detail)
            elif folder and _is_other(entry):
                yield LeftOut(shown, "no_archive", _NO_TAR)
            else:
                yield Shard("/".join(entry.text.split("/")[above:]), shown, shown, True)


class RemoteShards:
    """Shards of a store, which are fetched whole.

    Args:
        root: an address with or without braces, or the address of a prefix that is listed.
        settings: how to ask.
    """

    def __init__(self, root: str, settings: Settings) -> None:
        self._root, self._settings = root, settings
        self._listed: list[tuple[Store, Object]] | None = None
        self._is_named = True  # whether each shard is; otherwise a prefix is listed

    def extent(self) -> Extent:
        """Hash names, sizes and versions, reading no shard; of what is no tar, only the name counts."""
        total, size = hashlib.sha256(), 0
        listed = self._listing()
        for store, item in listed:
            other = self._is_other(item)
            state = ("no_archive",) if other else (str(item.size), item.version or item.problem)
            line = "\0".join((store.shown(item.name), *state))
            total.update(len(line).to_bytes(8, "big") + line.encode("utf-8", "surrogatepass"))
            size += 0 if other else item.size or 0
        return Extent(len(listed), size, total.hexdigest())

    def shards(self) -> Iterator[Shard | Refused | LeftOut]:
        """Fetch the shards side by side and yield them in their order, with what else lies below the address."""
        kept, listed = Kept(self._root), self._listing()
        above = _common_folders([store.shown(item.name) for store, item in listed])

        def fetched(found: tuple[Store, Object]) -> Shard | Refused | LeftOut:
            store, item = found
            shown = store.shown(item.name)
            if item.problem:
                return (LeftOut if item.problem in LEFT_OUT else Refused)(shown, item.problem, item.detail)
            if self._is_other(item):
                return LeftOut(shown, "no_archive", _NO_TAR)
            try:
                path = kept.fetch(store, item, _LARGEST)
            except ImageRefused as refusal:
                return Refused(shown, refusal.what, f"{refusal.found}. {refusal.fix}")
            parts = shown.split("/")
            return Shard("/".join(parts[min(above, len(parts) - 2) :]), shown, str(path), False)

        yield from in_order(fetched, listed, self._settings)
        kept.forget_others()

    def _is_other(self, item: Object) -> bool:
        """Tell whether an object that was listed is named as no tar: it is not read, and the account names it."""
        return not self._is_named and not item.problem and not NESTED.fullmatch(item.name)

    def _listing(self) -> list[tuple[Store, Object]]:
        """List the shards, once."""
        if self._listed is None:
            if problem := problem_of(self._root):
                raise _wrong(problem[0], self._root, "no address that can be read")
            names = _expanded(self._root)
            self._is_named = len(names) > 1 or NESTED.fullmatch(self._root.partition("?")[0]) is not None
            if self._is_named:
                self._listed = list(self._described([parse_address(name) for name in names]))
            else:
                store = open_store(parse_address(self._root), self._settings)
                found = sorted(store.listing(), key=lambda item: item.name)
                self._listed = [(store, item) for item in found]
                if not any(NESTED.fullmatch(item.name) for item in found):
                    raise _wrong("there is no shard at this address", self._root, f"{len(found):,} other objects")
        return self._listed

    def _described(self, addresses: Sequence[Address]) -> Iterator[tuple[Store, Object]]:
        """Describe shards by their addresses, those of one folder by one store."""
        for parent, names in _by_folder(addresses):
            store = open_store(parent, self._settings)
            for item in store.describe(names):
                if item.problem:
                    raise _wrong("a shard cannot be read", store.shown(item.name), item.detail)
                yield store, item


def _is_other(entry: Entry) -> bool:
    """Tell whether a file of a folder is named as no tar: it is not read, and the account names it."""
    return entry.reason is None and not NESTED.fullmatch(os.path.basename(entry.text))


def shards_of(root: str, settings: Settings) -> LocalShards | RemoteShards:
    """Choose by the form of the root."""
    return RemoteShards(root, settings) if is_address(root) else LocalShards(root)


def _common_folders(names: Sequence[str]) -> int:
    """Return how many folders at the top all names have in common."""
    columns = zip(*(name.split("/")[:-1] for name in names), strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def _by_folder(addresses: Sequence[Address]) -> Iterator[tuple[Address, list[str]]]:
    """Group addresses that follow each other and differ in their last part alone; one with a query stands alone."""

    def parts(address: Address) -> tuple[str, str]:
        folder, slash, name = address.place.rpartition("/")
        if "?" in address.place or not slash:
            return address.place, ""
        return folder, unquote(name) if address.protocol.startswith("http") else name

    for (protocol, folder), group in groupby(addresses, key=lambda address: (address.protocol, parts(address)[0])):
        yield Address(protocol, folder), [parts(address)[1] for address in group]


def _expanded(pattern: str) -> list[str]:
    try:
        return expand_braces(pattern)
    except ValueError as error:
        raise _wrong("the pattern of shards cannot be read", pattern, error) from error


def _wrong(what: str, where: object, found: object) -> SourceError:
    fix = "Write source.root as a path or an address, such as https://host/train-{000..012}.tar."
    return SourceError(what, where=where, found=found, fix=fix)
