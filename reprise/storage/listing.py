"""What lies in a folder that nobody vouches for: every entry once, by a stated rule.

No device is opened, nothing is waited for, and no link leads out of the root.

Standard library only: `python -m stages.ingest.scan` runs before each `repro` and must cost next to nothing.
A digest over names and contents stands for the folder in DVC (which fails on broken links, loops and names
that are not UTF-8, and hangs on FIFOs); contents are read again only when size or times changed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reprise.config.errors import ImageRefused, SourceError
from reprise.storage.atomic import atomic_file

LOCK_FILE = Path("source.lock.json")
CACHE = Path(".reprise/listing")
_BLOCK = 1 << 20
_RACY_NS = 2_000_000_000  # a file younger than this may change again within one tick of its clock


@dataclass(frozen=True)
class Entry:
    """One thing found below a root.

    Attributes:
        name: path relative to the root, raw bytes, parts joined by "/".
        path: what to open (links resolved). reason: why it is refused, None for a regular file. detail: a sentence.
    """

    name: bytes
    path: bytes
    reason: str | None = None
    detail: str = ""

    @property
    def shown(self) -> str:
        """The name as text; bytes that are not UTF-8 as \\xNN."""
        return shown(self.name)


def shown(name: bytes) -> str:
    """A raw name as valid UTF-8 text; other bytes as \\xNN."""
    return name.decode("utf-8", "backslashreplace")


def walk(root: str | Path) -> list[Entry]:
    """Every entry below `root` that is not a folder, sorted by name.

    Folders are entered in person, never through a link, so there are no loops; links to files inside the root
    are followed. Unreadable and hidden folders count as one entry.

    Raises:
        SourceError: the root is missing, is not a folder or cannot be read.
    """
    top = os.fsencode(root)
    try:
        real_top = os.path.realpath(top, strict=True)
        with os.scandir(real_top):
            pass
    except OSError as error:
        raise root_error(root, error) from error
    entries: list[Entry] = []
    pending = [b""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(os.path.join(real_top, folder) if folder else real_top) as listing:
                found = list(listing)
        except OSError as error:
            entries.append(
                Entry(
                    folder,
                    os.path.join(real_top, folder),
                    "unreadable",
                    f"this folder cannot be listed: {error.strerror}",
                )
            )
            continue
        for item in found:
            name = folder + b"/" + item.name if folder else item.name
            if not item.name.startswith(b".") and item.is_dir(follow_symlinks=False):
                pending.append(name)
            else:
                entries.append(_entry(name, item, real_top))
    return sorted(entries, key=lambda entry: entry.name)


def _entry(name: bytes, item: os.DirEntry[bytes], real_top: bytes) -> Entry:
    path = item.path
    if item.name.startswith(b"."):
        return Entry(name, path, "hidden", "names that start with a dot are left out")
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return Entry(name, path, "name_not_utf8", "rename it: the manifest holds UTF-8 names only")
    try:
        if item.is_symlink():
            path = os.path.realpath(path, strict=True)
            if os.path.commonpath([path, real_top]) != real_top:
                return Entry(
                    name,
                    item.path,
                    "outside_root",
                    "the link leaves the root: copy the file, or make that folder the root",
                )
        mode = os.stat(path, follow_symlinks=False).st_mode
    except OSError as error:
        reasons = {
            errno.ENOENT: ("broken_link", "the link's target is missing"),
            errno.ELOOP: ("link_loop", "the link leads back to itself"),
        }
        reason, detail = reasons.get(error.errno or 0, ("unreadable", f"it cannot be looked at: {error.strerror}"))
        return Entry(name, item.path, reason, detail)
    if stat.S_ISDIR(mode):
        return Entry(
            name,
            path,
            "link_to_folder",
            "links to folders are not entered: what is inside the root is found at its own place",
        )
    if not stat.S_ISREG(mode):
        return Entry(name, path, "not_a_file", "it is a device, a FIFO or a socket")
    return Entry(name, path)


def root_error(root: str | Path, error: OSError) -> SourceError:
    """What to tell a user whose root cannot be read."""
    if error.errno == errno.ENOENT:
        return SourceError(
            "there is nothing at the root of the source",
            where=root,
            found="no such folder or file",
            fix="Set source.root in params.yaml to the folder that holds your images.",
        )
    if error.errno == errno.ENOTDIR:
        return SourceError(
            "the root of the source is not a folder",
            where=root,
            found="a file",
            fix="Set source.root in params.yaml to the folder that holds your images.",
        )
    return SourceError(
        "the root of the source cannot be read",
        where=root,
        found=error.strerror,
        fix="Give yourself read permission on it (`ls -ld` shows its owner).",
    )


_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def opened(path: bytes | str | Path) -> Iterator[int]:
    """Open a regular file for reading: never a device, never waiting; yields the descriptor.

    A path that is a link (`walk` lets through those that stay inside the root) is resolved once.

    Raises:
        ImageRefused: not_a_file, unreadable; or changed_while_reading when size or times differ at the end.
    """
    where = shown(os.fsencode(path))
    try:
        try:
            descriptor = os.open(path, _FLAGS)
        except OSError as error:
            if error.errno != errno.ELOOP:  # what O_NOFOLLOW says of a link
                raise
            descriptor = os.open(os.path.realpath(path, strict=True), _FLAGS)
    except OSError as error:
        raise ImageRefused(
            "unreadable", where=where, found=error.strerror, fix="Give yourself read permission on it."
        ) from error
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise ImageRefused("not_a_file", where=where, found="a device, a FIFO or a folder", fix="Remove it.")
        try:
            yield descriptor
        except OSError as error:
            raise ImageRefused(
                "unreadable", where=where, found=error.strerror or error, fix="Check the disk."
            ) from error
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise ImageRefused(
                "changed_while_reading",
                where=where,
                found="other size or time after reading",
                fix="Run again when nobody writes to it.",
            )
    finally:
        os.close(descriptor)


def read_regular(path: bytes | str | Path, limit: int) -> bytes:
    """All bytes of a regular file of at most `limit` bytes.

    Raises:
        ImageRefused: as `opened`, or too_many_bytes.
    """
    with opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise ImageRefused(
                "too_many_bytes",
                where=shown(os.fsencode(path)),
                found=f"{size} bytes",
                fix=f"The limit is {limit} bytes (eight a pixel of source.max_pixels).",
            )
        pieces = []
        while piece := os.read(descriptor, max(_BLOCK, size + 1)):
            pieces.append(piece)
            if sum(map(len, pieces)) > limit:  # it grows while it is read
                raise ImageRefused(
                    "changed_while_reading",
                    where=shown(os.fsencode(path)),
                    found=f"more than {limit} bytes",
                    fix="Run again when nobody writes to it.",
                )
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def sha256_of(path: bytes | str | Path) -> tuple[str, int]:
    """SHA-256 (hexadecimal) and length of a regular file's content.

    Raises:
        ImageRefused: as `opened`.
    """
    digest, size = hashlib.sha256(), 0
    with opened(path) as descriptor:
        while piece := os.read(descriptor, _BLOCK):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


def digest_of(contents: Iterable[tuple[bytes, str]]) -> str:
    """One digest for a whole listing: (name, SHA-256 of the content or the reason why it was not read), any order."""
    total = hashlib.sha256()
    for name, content in sorted(contents):
        total.update(len(name).to_bytes(8, "big") + name + content.encode("ascii") + b"\n")
    return total.hexdigest()


def digest_folder(
    root: str | Path, cache: Path = CACHE, seen: Callable[[], None] = lambda: None
) -> tuple[int, int, str]:
    """Number of entries, bytes and digest of a folder, reading only what changed since the last time.

    Args:
        cache: folder of the stat-keyed cache. seen: called once an entry, for progress.

    Raises:
        SourceError: the root is missing or cannot be read.
    """
    store = cache / f"{hashlib.sha256(os.path.realpath(os.fsencode(root))).hexdigest()[:24]}.json"
    known, kept = _load(store), {}
    contents, total, now = [], 0, time.time_ns()
    for entry in walk(root):
        seen()
        if entry.reason is not None:
            contents.append((entry.name, entry.reason))
            continue
        try:
            status = os.stat(entry.path, follow_symlinks=False)
            facts = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
            name = entry.name.decode("utf-8")
            if known.get(name, [None])[1:] == facts:
                sha256 = str(known[name][0])
            else:
                sha256, _ = sha256_of(entry.path)
            if now - max(status.st_mtime_ns, status.st_ctime_ns) > _RACY_NS:
                kept[name] = [sha256, *facts]
            contents.append((entry.name, sha256))
            total += status.st_size
        except ImageRefused as refusal:
            contents.append((entry.name, refusal.what))
        except OSError:
            contents.append((entry.name, "unreadable"))
    if kept != known:
        with atomic_file(store, "w") as file:
            json.dump(kept, file)
    return len(contents), total, digest_of(contents)


def _load(store: Path) -> dict[str, list[object]]:
    try:
        value = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) and all(isinstance(v, list) for v in value.values()) else {}
