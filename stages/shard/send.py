"""Send finished tars to a store (`shard.store`), and keep on this machine only where they are.

Each tar becomes an object under the name of its hash. One that is there already, with that length, is not sent again;
one of another length is an error, because nothing but this stage gives objects such names. A note beside the rows of
the index says that a tar was sent, so that a stage that was killed goes on with the others.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from reprise.artifacts.tars.far import settings_of
from reprise.artifacts.tars.table import FILE, FarTar, write_far
from reprise.config.errors import MachineError, ShardError, SourceError
from reprise.config.stores import FarParams
from reprise.config.texts.addresses import Address, parse_address
from reprise.storage.atomic import write_json
from reprise.storage.stores.in_order import patiently
from reprise.storage.stores.store import Object, open_store

_SENT = ".sent"  # after the name of a tar: its length and hash, once the store has it
_AT_ONCE = 4  # tars that are sent while others are written; so many wait on the disk
_PAGE = 1000  # objects of one answer to a listing
_FIX = "Choose an empty prefix for shard.store, or remove this object if nobody needs it."


@contextmanager
def sending(work: Path, store: str | None, params: FarParams) -> Iterator[Sender | None]:
    """Yield what sends the tars of a folder; None where no store is named."""
    if store is None:
        yield None
        return
    sender = Sender(work, parse_address(store), params)
    try:
        yield sender
    except BaseException:
        sender.close(at_once=True)
        raise
    sender.close()


class Sender:
    """Sends tars of one folder.

    Args:
        work: the folder in which tars are finished.
        store: address.
        params: how it is asked.
    """

    def __init__(self, work: Path, store: Address, params: FarParams) -> None:
        self._work, self._address = work, store
        self._store = open_store(store, settings_of(params))
        self._sent: dict[str, FarTar] = {}
        self._noted: dict[str, FarTar] | None = None  # by earlier processes, once somebody has asked for them
        self._listed: dict[str, Object] = {}  # those of them that the store has listed
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="send")
        self._waiting: deque[Future[None]] = deque()

    def close(self, *, at_once: bool = False) -> None:
        """End the threads; `at_once`: none of them goes on trying."""
        if at_once:
            self._store.settings.stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def has(self, name: str) -> bool:
        """Tell whether a tar was sent by an earlier process, and is still there."""
        if self._noted is None:
            self._noted = _read_notes(self._work)
            self._listed = self._list({tar.object for tar in self._noted.values()})
        tar = self._noted.get(name)
        if tar is None or not self._is_there(tar, name, self._listed.get(tar.object)):
            return False
        self._sent[name] = tar
        return True

    def send(self, name: str) -> None:
        """Send a tar of the folder beside what follows, and remove it when the store has it.

        Raises:
            MachineError: an earlier one could not be sent. ShardError: the store has something else in its place.
        """
        if name in self._sent:
            return
        self._waiting.append(self._pool.submit(self._send, name))
        if len(self._waiting) > _AT_ONCE:
            self._waiting.popleft().result()

    def finish(self, output: Path) -> None:
        """Wait until all are sent, and write the table of them into a folder."""
        while self._waiting:
            self._waiting.popleft().result()
        write_far(output / FILE, self._address, self._sent)

    def _send(self, name: str) -> None:
        path = self._work / name
        with open(path, "rb") as file:
            tar = FarTar(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
        if not self._is_there(tar, name):
            where = f"{name}, to {self._store.shown(tar.object)}"
            patiently(lambda: self._store.send(tar.object, path, tar.sha256), self._store.settings, where)
            if not self._is_there(tar, name):
                raise ShardError(
                    "a shard is not in its store after it was sent",
                    where=where,
                    found="no such object",
                    fix="Look at what removes objects there, then run `dvc repro shard` again.",
                )
        write_json(self._note(name), asdict(tar))
        self._sent[name] = tar
        path.unlink()

    def _list(self, wanted: set[str]) -> dict[str, Object]:
        """Find objects in one listing, which asks for a thousand at once, by at most as many requests as they are."""
        found: dict[str, Object] = {}
        # There is nothing yet, or the store may not be listed (some say it as a failure): each is asked for then.
        with suppress(SourceError, MachineError):
            for item in islice(self._store.listing(), _PAGE * len(wanted)):
                if item.name in wanted:
                    found[item.name] = item
                if len(found) == len(wanted):
                    break
        return found

    def _is_there(self, tar: FarTar, name: str, item: Object | None = None) -> bool:
        """Tell whether an object is there; without what a listing says of it, the store is asked.

        Raises:
            ShardError: it has another length.
        """
        item = item or self._store.look(tar.object)
        if item.size is not None and item.size != tar.bytes:
            raise ShardError(
                "the store has another file in place of a shard, which is not written over",
                where=f"{name}, to {self._store.shown(tar.object)}",
                found=f"{item.size:,} bytes instead of {tar.bytes:,}",
                fix=_FIX,
            )
        return not item.problem and item.size is not None

    def _note(self, name: str) -> Path:
        return self._work / f"{name}{_SENT}"


def _read_notes(work: Path) -> dict[str, FarTar]:
    """Read which tars of a folder were sent, by their names; a note that cannot be read counts as none."""
    found = {}
    for path in work.glob(f"*{_SENT}"):
        with suppress(OSError, ValueError, TypeError):
            found[path.name.removesuffix(_SENT)] = FarTar(**json.loads(path.read_text(encoding="utf-8")))
    return found
