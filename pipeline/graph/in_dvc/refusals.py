"""Say which objects were refused and whose they are, and set them aside."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path

from pipeline.graph.lock_file import LOCK_FILE, REFUSED, read_lock
from pipeline.graph.workspace import STATE
from reprise.config.errors import RepriseError, printable

ASIDE = STATE / "refused"


class Refusals:
    """The objects that this process refused.

    Attributes:
        foreign: whether bytes from a remote were among them; a transfer has then failed.
        optional: whether DVC can go on without objects of a remote, as `repro` does: it computes what is missing.
        listings: the listings of remotes among them.
        paths: object -> the files of the folder that dvc.lock gives this object.
        sizes: object -> the most bytes that it may have, as far as dvc.lock says.
    """

    def __init__(self) -> None:
        self.foreign = False
        self.optional = False
        self.listings: set[str] = set()
        self.paths: dict[str, list[str]] = {}
        self.sizes: dict[str, int] = {}
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self.note_outputs()

    def note_outputs(self) -> None:
        """Note which files dvc.lock gives which objects."""
        with suppress(RepriseError, OSError, RecursionError):  # whoever reads dvc.lock for its own sake explains it
            self._note_outputs()

    def _note_outputs(self) -> None:
        self.paths.clear()
        for entry in read_lock().values() if Path(LOCK_FILE).exists() else ():
            for out in entry.get("outs", []):
                self.paths.setdefault(out["md5"], []).append(out["path"])
                if isinstance(out.get("size"), int):
                    self.sizes[out["md5"]] = max(out["size"], self.sizes.get(out["md5"], 0))

    def note_member(self, listing: str, name: str, md5: str) -> None:
        """Note that a listing gives a file of its folder an object."""
        for folder in self.paths.get(listing, ()):
            path = f"{folder}/{name}"
            known = self.paths.setdefault(md5, [])
            if path not in known:
                known.append(path)
        if listing in self.sizes:
            self.sizes[md5] = max(self.sizes[listing], self.sizes.get(md5, 0))

    def say(self, what: str, *, foreign: bool = False) -> None:
        """Print a refusal on stderr, once.

        Args:
            what: the sentence, without a full stop.
            foreign: whether the bytes came from a remote.
        """
        with self._lock:  # lines of several threads must not mix
            self.foreign |= foreign
            if what not in self._said:
                self._said.add(what)
                print(f"{REFUSED}{printable(what)}", file=sys.stderr, flush=True)

    def owner(self, name: str) -> str:
        """Name the files for which an object stands: "3f... of data/runs/simclr/0/backbone.safetensors"."""
        paths = self.paths.get(name, [])
        more = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
        return f"{name} of {', '.join(paths[:2])}{more}" if paths else name


def set_aside(path: str, name: str) -> str:
    """Take an object out of the cache, so that nothing can use it.

    Args:
        path: the object's file.
        name: the object's name.

    Returns:
        What became of it, a clause.
    """
    target = ASIDE / re.sub(r"[^0-9a-z.]", "_", name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
        return f"set aside as {target}"
    except FileNotFoundError:
        return "gone already"
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EISDIR, errno.ENOTDIR):
            return f"and it cannot be removed from {path}: {error.strerror}"
    try:
        os.unlink(path)
        return "removed from the cache"
    except OSError as error:
        return f"and it cannot be removed from {path}: {error.strerror}"
