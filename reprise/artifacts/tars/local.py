"""Tars that lie in their folder."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from reprise.artifacts.tars.explained import reading_error
from reprise.config.errors import ShardError

FIX = "Run `dvc repro shard` to write it again (`dvc checkout data/shards` restores a cached copy)."


class LocalTars:
    """Opens tars of a folder and keeps some open; safe to share between threads.

    Attributes:
        directory: the folder.
        far: False; see `FarTars`.
    """

    far: ClassVar[bool] = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._tars: OrderedDict[str, _OpenTar] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        # Neither locks nor open files cross to another process; each opens the tars for itself.
        return {"directory": self.directory}

    def __setstate__(self, state: dict[str, object]) -> None:
        LocalTars.__init__(self, **state)  # type: ignore[arg-type]

    def where(self, name: str) -> str:
        """Return where a tar lies, for people."""
        return str(self.directory / name)

    def read(self, name: str, size: int, offset: int) -> bytes:
        """Return bytes of a tar; fewer where it ends before.

        Raises:
            ShardError: it cannot be read. MachineError: the machine is the reason.
        """
        try:  # the sentence is made where it is needed, for this is called for every image
            tar = self._open(name)  # it stays open while it is held here, whatever other threads open and close
            return os.pread(tar.descriptor, size, offset)
        except OSError as error:
            raise reading_error(error, self.where(name), FIX) from error

    def check(self, needed: Mapping[str, int]) -> None:
        """Compare the lengths of tars with what an index needs of them.

        Raises:
            ShardError: one is missing or shorter.
        """
        for name, size in sorted(needed.items()):
            path = self.directory / name
            if not path.is_file():
                raise ShardError("a shard is missing", where=path, found="no such file", fix=FIX)
            if path.stat().st_size < size:
                raise ShardError(
                    "a shard is truncated",
                    where=path,
                    found=f"{path.stat().st_size} bytes, at least {size} are needed",
                    fix=FIX,
                )

    def expect(self, names: Sequence[str]) -> None:
        """Do nothing: the tars are here."""

    def let_go(self, names: Sequence[str]) -> None:
        """Do nothing: the tars stay here."""

    def close(self) -> None:
        """Close the tars; `read` opens them again."""
        with self._lock:
            self._tars.clear()

    def _open(self, name: str) -> _OpenTar:
        """Return an open tar, and close the one that was used longest ago where too many are open."""
        with self._lock:
            tar = self._tars.pop(name, None)
            if tar is None:
                while len(self._tars) >= most_open_tars():
                    self._tars.popitem(last=False)
                try:
                    tar = _OpenTar(self.directory / name)
                except OSError as error:
                    if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._tars:
                        raise
                    self._tars.clear()  # others in this process have taken the rest
                    tar = _OpenTar(self.directory / name)
            self._tars[name] = tar
            return tar


class _OpenTar:
    """A file descriptor that is closed with the last reference to this object."""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def most_open_tars() -> int:
    """Return how many tars one reader keeps open: a part of what this process may have open, at most 256.

    Several readers, pipes and libraries share the limit. ImageNet-1k has 2,200 tars of 64 MiB, and opening one again
    takes microseconds.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 256 if allowed == resource.RLIM_INFINITY else max(4, min(256, allowed // 8))
