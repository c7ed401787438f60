"""Read untrusted files, and compute one digest for a folder of them.

No device is opened and no call blocks. DVC tracks the digest over names and contents instead of the folder, and
contents are read again only when size or times changed.
Standard library only: `python -m stages.ingest.scan` runs before each `repro` and must cost next to nothing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reprise.config.errors import ImageRefused
from reprise.storage.atomic import atomic_file
from reprise.storage.system.machine import FAULTS, machine_error, patiently
from reprise.storage.system.pseudo_files import pseudo_devices
from reprise.storage.walk import Entry, list_entries, name_text

LOCK_FILE = Path("source.lock.json")
SHIFTS_LOCK = Path("shifts.lock.json")  # the same for each row of `shifts` that is a source, by name
CACHE = Path(".reprise/listing")
_BLOCK = 1 << 20
_RACY_NS = 2_000_000_000  # nanoseconds; FAT's times have a resolution of two seconds


# Between listing and opening, anybody may put a link or a FIFO in the file's place: without O_NOFOLLOW the link would
# lead out of the root, and without O_NONBLOCK the open would wait for a writer of the FIFO.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def open_regular(path: bytes | str | Path) -> Iterator[int]:
    """Open a regular file for reading, never a device, without ever blocking; yield the descriptor.

    A path that is a link (`list_entries` admits those that stay inside the root) is resolved once.

    Raises:
        ImageRefused: not_a_file, unreadable; or changed_while_reading when size or times differ at the end.
        MachineError: the machine is the reason that it cannot be read.
    """
    where = name_text(os.fsencode(path))
    try:
        try:
            descriptor = os.open(path, READ_FLAGS)
        except OSError as error:
            if error.errno != errno.ELOOP:  # O_NOFOLLOW's answer to a link
                raise
            descriptor = os.open(os.path.realpath(path, strict=True), READ_FLAGS)
    except OSError as error:
        if error.errno in FAULTS:
            raise machine_error(where, error) from error
        raise ImageRefused(
            "unreadable", where=where, found=error.strerror, fix="Give yourself read permission on it."
        ) from error
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode) or before.st_dev in pseudo_devices():
            found = "a device, a FIFO, a folder, or a file of the system such as those in /proc"
            raise ImageRefused("not_a_file", where=where, found=found, fix="Remove it.")
        try:
            yield descriptor
        except OSError as error:
            if error.errno in FAULTS:
                raise machine_error(where, error) from error
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
    """Return all bytes of a regular file.

    Args:
        path: the file.
        limit: largest length in bytes.

    Raises:
        ImageRefused: as `open_regular`, or too_many_bytes.
        MachineError: as `open_regular`, after several attempts.
    """
    return patiently(lambda: _read_once(path, limit))


def _read_once(path: bytes | str | Path, limit: int) -> bytes:
    with open_regular(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise too_many_bytes(name_text(os.fsencode(path)), size, limit)
        pieces = []
        while piece := os.read(descriptor, max(_BLOCK, size + 1)):
            pieces.append(piece)
            if sum(map(len, pieces)) > limit:  # it grows while it is read
                raise ImageRefused(
                    "changed_while_reading",
                    where=name_text(os.fsencode(path)),
                    found=f"more than {limit} bytes",
                    fix="Run again when nobody writes to it.",
                )
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_part(path: bytes | str | Path, offset: int, size: int, limit: int) -> bytes:
    """Return bytes that lie together in a regular file.

    Args:
        path: the file.
        offset: of the first byte.
        size: number of bytes.
        limit: largest `size`.

    Raises:
        ImageRefused: as `read_regular`, or truncated where the file ends before.
        MachineError: as `open_regular`, after several attempts.
    """
    where = name_text(os.fsencode(path))
    if size > limit:
        raise too_many_bytes(where, size, limit)
    data = patiently(lambda: _read_part_once(path, offset, size))
    if len(data) < size:
        found = f"{len(data)} of {size} bytes at {offset}"
        raise ImageRefused("truncated", where=where, found=found, fix="Fetch the file again.")
    return data


def _read_part_once(path: bytes | str | Path, offset: int, size: int) -> bytes:
    with open_regular(path) as descriptor:
        pieces, left = [], size
        while left and (piece := os.pread(descriptor, left, offset + size - left)):
            pieces.append(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def too_many_bytes(where: str, size: int, limit: int) -> ImageRefused:
    """Make the refusal of a file that has more bytes than any permitted image."""
    fix = f"The limit is {limit} bytes (eight a pixel of source.max_pixels)."
    return ImageRefused("too_many_bytes", where=where, found=f"{size} bytes", fix=fix)


def sha256_of(path: bytes | str | Path) -> tuple[str, int]:
    """Return the SHA-256 (hexadecimal) and the length in bytes of a regular file.

    Raises:
        ImageRefused: as `open_regular`.
        MachineError: as `open_regular`, after several attempts.
    """
    return patiently(lambda: _hash_once(path))


def _hash_once(path: bytes | str | Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with open_regular(path) as descriptor:
        length = os.fstat(descriptor).st_size
        # Beyond its length, `open_regular` refuses it: a file that grows as fast as it is read would never end.
        while size <= length and (piece := os.read(descriptor, _BLOCK)):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


def digest_of(contents: Iterable[tuple[bytes, str]]) -> str:
    """Compute one digest for a whole listing.

    Args:
        contents: of each entry the raw name, and the SHA-256 of its content or the reason why it was not read; in any
            order.
    """
    total = hashlib.sha256()
    for name, content in sorted(contents):
        # The length in front keeps a name that holds a line break from passing for two entries.
        total.update(len(name).to_bytes(8, "big") + name + content.encode("ascii") + b"\n")
    return total.hexdigest()


def digest_folder(
    root: str | Path,
    cache: Path = CACHE,
    on_entry: Callable[[], None] = lambda: None,
    link_roots: Sequence[str | Path] = (),
) -> tuple[int, int, str]:
    """Compute the digest of a folder, reading only files that changed since the last time.

    Args:
        root: the folder.
        cache: folder that keeps each file's SHA-256 with its size, times and inode.
        on_entry: called once for each entry, for progress.
        link_roots: folders into which links may lead.

    Returns:
        number of entries, bytes of the files that were read, digest.

    Raises:
        SourceError: the root is missing or cannot be read.
        MachineError: the machine is the reason that a file cannot be read.
    """
    return digest_entries(root, list_entries(root, link_roots), cache, on_entry)


def digest_file(path: str | Path, cache: Path = CACHE) -> tuple[int, int, str]:
    """Compute the digest of one file, an archive or a table, reading it only if it changed since the last time.

    Returns:
        1, its bytes, digest.

    Raises:
        ImageRefused: as `open_regular`. MachineError: the machine is the reason that it cannot be read.
    """
    with open_regular(path):
        real = os.path.realpath(os.fsencode(path))
    return digest_entries(path, [Entry(os.path.basename(real), real)], cache)


def digest_entries(
    root: str | Path, entries: Iterable[Entry], cache: Path = CACHE, on_entry: Callable[[], None] = lambda: None
) -> tuple[int, int, str]:
    """Compute the digest of entries that were listed, as `digest_folder` does for all entries of a folder.

    Args:
        root: names the cache's file.
        entries: of a folder.
        cache: folder that keeps each file's SHA-256 with its size, times and inode.
        on_entry: called once for each entry, for progress.
    """
    store = cache / f"{hashlib.sha256(os.path.realpath(os.fsencode(root))).hexdigest()[:24]}.json"
    known = _load(store)
    kept: dict[str, list[object]] = {}
    contents, total, now = [], 0, time.time_ns()
    for entry in entries:
        on_entry()
        if entry.reason is not None:
            contents.append((entry.name, entry.reason))
            continue
        try:
            sha256, size = _remembered(entry.path, entry.name.decode("utf-8"), known, kept, now)
            contents.append((entry.name, sha256))
            total += size
        except ImageRefused as refusal:
            contents.append((entry.name, refusal.what))
        except OSError as error:
            if error.errno in FAULTS:
                raise machine_error(entry.text, error) from error
            contents.append((entry.name, "unreadable"))
    if kept != known:
        with atomic_file(store, "w") as file:
            json.dump(kept, file)
    return len(contents), total, digest_of(contents)


def digest_files(files: Mapping[str, Path], cache: Path = CACHE) -> tuple[int, str]:
    """Compute the digest of a few files by the names that a data set gives them, reading only those that changed.

    Args:
        files: path of each file by its name; a link is followed.
        cache: as in `digest_folder`.

    Returns:
        bytes, digest.

    Raises:
        ImageRefused: one cannot be read; it names the path.
        MachineError: the machine is the reason.
    """
    contents, total = [], 0
    places = {name: os.fsencode(os.path.realpath(path)) for name, path in files.items()}
    for name, value in hash_files(places, b"\0".join(places.values()), cache).items():
        if isinstance(value, ImageRefused):
            raise value
        contents.append((name.encode(), value[0]))
        total += value[1]
    return total, digest_of(contents)


def hash_files(
    files: Mapping[str, bytes], root: bytes, cache: Path = CACHE
) -> dict[str, tuple[str, int] | ImageRefused]:
    """Return SHA-256 and length of each file, or why it cannot be read, reading only files that changed.

    Args:
        files: path of each by a name, under which it is remembered; the paths themselves are not.
        root: what the files belong to: those of one root are remembered together.
        cache: as in `digest_folder`.

    Raises:
        MachineError: the machine is the reason that one cannot be read.
    """
    store = cache / f"files-{hashlib.sha256(root).hexdigest()[:24]}.json"
    known = _load(store)
    kept: dict[str, list[object]] = {}
    found: dict[str, tuple[str, int] | ImageRefused] = {}
    now = time.time_ns()
    for name, path in files.items():
        try:
            found[name] = _remembered(path, name, known, kept, now)
        except ImageRefused as refusal:
            found[name] = refusal
        except OSError as error:
            if error.errno in FAULTS:
                raise machine_error(name_text(path), error) from error
            where = name_text(path)
            found[name] = ImageRefused("unreadable", where=where, found=error.strerror, fix="Check the file.")
    if kept != known:
        with atomic_file(store, "w") as file:
            json.dump(kept, file)
    return found


def _remembered(
    path: bytes, name: str, known: dict[str, list[object]], kept: dict[str, list[object]], now: int
) -> tuple[str, int]:
    """Return SHA-256 and length of a file, and keep both in `kept`; it is read where size, times or inode changed."""
    status = os.stat(path, follow_symlinks=False)
    facts = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
    sha256 = str(known[name][0]) if known.get(name, [None])[1:] == facts else sha256_of(path)[0]
    # A file as young as this may be written to again without a change of its times: it is read next time too.
    if now - max(status.st_mtime_ns, status.st_ctime_ns) > _RACY_NS:
        kept[name] = [sha256, *facts]
    return sha256, status.st_size


def _load(store: Path) -> dict[str, list[object]]:
    """Read the cache; a damaged one is an empty one."""
    try:
        value = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) and all(isinstance(v, list) for v in value.values()) else {}
