"""List a folder of untrusted files: every entry once, by a stated rule (docs/reference/data-rules.md).

No call blocks, and no link is followed out of the folders that the user names. DVC itself cannot track such a folder:
it fails on broken links, loops and names that are not UTF-8, and it hangs on FIFOs.
Standard library only: `python -m stages.ingest.scan` runs before each `repro` and must cost next to nothing.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from reprise.config.errors import SourceError
from reprise.storage.system.machine import FAULTS, machine_error
from reprise.storage.system.pseudo_files import is_pseudo

MOST_ENTRIES = 20_000_000  # at any depth; the largest public data set has 14 million images
_MADE_UP = "the kernel makes up what lies there, as in /proc, /sys and /dev"
LEFT_OUT = ("hidden", "system_file")  # reasons of entries that nobody means as images
WHY_LEFT_OUT = {
    "hidden": "names that start with a dot are left out",
    "system_file": "the system or a program keeps it for itself; it is left out",
}
_SYSTEM_FILES = {
    *(b"thumbs.db", b"ehthumbs.db", b"ehthumbs_vista.db", b"desktop.ini", b"icon\r"),  # Windows, macOS
    *(b"picasa.ini", b"zbthumbnail.info", b"pspbrwse.jbf"),  # viewers of pictures
}
_SYSTEM_FOLDERS = {
    *(b"__macosx", b"$recycle.bin", b"recycler", b"system volume information", b"lost+found", b"found.000"),
    *(b"@eadir", b"@recycle", b"#recycle", b"#snapshot", b"@tmp", b"@recently-snapshot"),  # Synology, QNAP
    b"__pycache__",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder, at any depth.

    Attributes:
        name: path relative to the root, raw bytes, parts joined by "/".
        path: the file to open, with links resolved.
        reason: why the entry is refused, a code of docs/reference/data-rules.md; None for a regular file.
        detail: the reason as a sentence.
    """

    name: bytes
    path: bytes
    reason: str | None = None
    detail: str = ""

    @property
    def text(self) -> str:
        """The name as text."""
        return name_text(self.name)


def name_text(name: bytes) -> str:
    """Return a raw name as valid UTF-8 text, with bytes that are not UTF-8 written as \\xNN."""
    return name.decode("utf-8", "backslashreplace")


def list_entries(root: str | Path, link_roots: Sequence[str | Path] = ()) -> list[Entry]:
    """List everything below `root` except folders, sorted by name.

    Links to files inside the root are followed, and links to files and folders inside one of `link_roots`. A folder is
    listed once: at its own place, or else at the first link to it by name, so there are no loops. A folder that is
    unreadable, hidden or a system's own counts as one entry.

    Args:
        root: the folder.
        link_roots: folders into which links may lead.

    Raises:
        SourceError: the root is missing, is not a folder, belongs to the system, cannot be read, or holds more than
            MOST_ENTRIES; or a folder of `link_roots` is missing.
        MachineError: the machine is the reason that a folder cannot be listed.
    """
    top = os.fsencode(root)
    try:
        real_top = os.path.realpath(top, strict=True)
        if is_pseudo(real_top, os.stat(real_top).st_dev):
            raise _system_root(root)
        with os.scandir(real_top):
            pass
    except OSError as error:
        raise root_error(root, error) from error
    walk = _Walk(real_top, [_real_link_root(folder) for folder in link_roots])
    walk.enter(b"", real_top)
    # Folders have their own places by now. Those behind links follow in the order of the links' names, one at a time,
    # since a folder behind a link may hold further links.
    while walk.links:
        walk.enter(*heapq.heappop(walk.links))
    return sorted(walk.entries, key=lambda entry: entry.name)


class _Walk:
    """The state of one listing.

    Attributes:
        entries: found so far.
        links: a heap of the names and targets of links to folders that may be followed and have not been.
    """

    def __init__(self, real_top: bytes, link_roots: list[bytes]) -> None:
        self.entries: list[Entry] = []
        self.links: list[tuple[bytes, bytes]] = []
        self._top, self._link_roots = real_top, link_roots
        self._listed: dict[bytes, bytes] = {}  # real path of a folder -> its name

    def enter(self, name: bytes, path: bytes) -> None:
        """List a folder and those below it; `path` is its real path."""
        pending = [(name, path)]  # a stack instead of recursion: folders may be nested deeper than Python's stack
        while pending:
            folder, real = pending.pop()
            if self._link_roots:
                place = self._listed.setdefault(real, folder)
                if place != folder:
                    self.entries.append(_listed_elsewhere(folder, real, place))
                    continue
            try:
                if is_pseudo(real, os.stat(real).st_dev):
                    self.entries.append(Entry(folder, real, "kernel_folder", _MADE_UP))
                    continue
                with os.scandir(real) as listing:
                    found = list(islice(listing, MOST_ENTRIES))
            except OSError as error:
                if error.errno in FAULTS:
                    raise machine_error(name_text(real), error) from error
                detail = f"this folder cannot be listed, so nobody knows what it holds: {error.strerror}"
                self.entries.append(Entry(folder, real, "unreadable", detail))
                continue
            for item in found:
                name = folder + b"/" + item.name if folder else item.name
                left_out = _left_out(name, item)
                if left_out is not None:
                    self.entries.append(left_out)
                elif _is_folder(item):
                    pending.append((name, item.path))
                else:
                    self._add(name, item)
            if len(self.entries) + len(pending) >= MOST_ENTRIES:
                raise _too_many(self._top)

    def _add(self, name: bytes, item: os.DirEntry[bytes]) -> None:
        """Add an entry that is not a folder to enter; the first rule that applies gives the reason."""
        path = item.path
        try:
            name.decode("utf-8")
        except UnicodeDecodeError:
            self.entries.append(Entry(name, path, "name_not_utf8", "rename it: the manifest holds only names in UTF-8"))
            return
        try:
            is_link = item.is_symlink()
            if is_link:
                path = os.path.realpath(path, strict=True)
                if not self._may_follow(path):
                    self.entries.append(Entry(name, item.path, "outside_root", _outside(path)))
                    return
            mode = os.stat(path, follow_symlinks=False).st_mode
        except OSError as error:
            self.entries.append(_unusable(name, item.path, error))
            return
        if stat.S_ISDIR(mode):
            if any(_inside(path, folder) for folder in self._link_roots):
                heapq.heappush(self.links, (name, path))
            else:
                self.entries.append(
                    Entry(
                        name,
                        path,
                        "link_to_folder",
                        "a link to a folder inside the root is not followed: the folder is listed at its own place",
                    )
                )
        elif not stat.S_ISREG(mode):
            self.entries.append(Entry(name, path, "not_a_file", "it is a device, a FIFO or a socket"))
        else:
            self.entries.append(Entry(name, path))

    def _may_follow(self, path: bytes) -> bool:
        return any(_inside(path, folder) for folder in (self._top, *self._link_roots))


def reason_to_leave_out(parts: Sequence[bytes]) -> str | None:
    """Return why nobody means a file as an image, `hidden` or `system_file`, by the parts of its path; None otherwise.

    Archives and stores list paths, where folders that are left out cannot be told by themselves.
    """
    if any(part.startswith(b".") for part in parts):
        return "hidden"
    system = parts[-1].lower() in _SYSTEM_FILES or any(part.lower() in _SYSTEM_FOLDERS for part in parts[:-1])
    return "system_file" if system else None


def _left_out(name: bytes, item: os.DirEntry[bytes]) -> Entry | None:
    """Return the entry of what systems and programs leave in folders of images, or None for anything else."""
    own = item.name
    if own.startswith(b"."):
        return Entry(name, item.path, "hidden", WHY_LEFT_OUT["hidden"])
    lower = own.lower()
    if lower in _SYSTEM_FILES or (lower in _SYSTEM_FOLDERS and _is_folder(item)):
        return Entry(name, item.path, "system_file", WHY_LEFT_OUT["system_file"])
    return None


def _is_folder(item: os.DirEntry[bytes]) -> bool:
    try:
        return item.is_dir(follow_symlinks=False)
    except OSError:  # its kind is unknown without a look at it, which fails: `_add` says why
        return False


def _inside(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _outside(path: bytes) -> str:
    return (
        f"the link leaves the root, to {name_text(path)}: name the folder that holds its target in "
        "source.options.link_roots to follow it"
    )


def _listed_elsewhere(name: bytes, path: bytes, place: bytes) -> Entry:
    shown = f"as {name_text(place)}" if place else "as the root itself"
    return Entry(name, path, "link_to_folder", f"the folder to which this link leads is listed already, {shown}")


def _unusable(name: bytes, path: bytes, error: OSError) -> Entry:
    """Return the entry of a link or file that cannot even be looked at."""
    if error.errno in FAULTS:
        raise machine_error(name_text(path), error) from error
    reasons = {
        errno.ENOENT: ("broken_link", "the link's target is missing"),
        errno.ELOOP: ("link_loop", "the link leads back to itself"),
    }
    reason, detail = reasons.get(error.errno or 0, ("unreadable", f"its properties cannot be read: {error.strerror}"))
    return Entry(name, path, reason, detail)


def _real_link_root(folder: str | Path) -> bytes:
    try:
        real = os.path.realpath(os.fsencode(Path(folder).expanduser()), strict=True)
        if not os.path.isdir(real):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except (OSError, RuntimeError) as error:
        raise SourceError(
            "a folder into which links may lead cannot be used",
            where=folder,
            found=getattr(error, "strerror", None) or error,
            fix="Correct source.options.link_roots in params.yaml.",
        ) from error
    return real


def _system_root(root: str | Path) -> SourceError:
    return SourceError(
        "the root of the source is a folder of the system, which holds no images",
        where=root,
        found=_MADE_UP,
        fix="Set source.root in params.yaml to the folder that holds your images.",
    )


def _too_many(top: bytes) -> SourceError:
    return SourceError(
        "the root of the source holds more than memory can list",
        where=name_text(top),
        found=f"{MOST_ENTRIES:,} files and folders or more",
        fix="Set source.root in params.yaml to a folder of images alone.",
    )


def root_error(root: str | Path, error: OSError, reads: str = "the folder that holds your images") -> SourceError:
    """Make the error for a root that cannot be read.

    Args:
        root: of the source.
        error: of the system.
        reads: what the source reads at its root, the end of a sentence.
    """
    if error.errno == errno.ENOENT:
        return SourceError(
            "the root of the source is missing",
            where=root,
            found="nothing there",
            fix=f"Set source.root in params.yaml to {reads}.",
        )
    if error.errno == errno.ENOTDIR:
        return SourceError(
            "the root of the source is not a folder",
            where=root,
            found="a file",
            fix=f"Set source.root in params.yaml to {reads}.",
        )
    return SourceError(
        "the root of the source cannot be read",
        where=root,
        found=error.strerror,
        fix="Give yourself read permission on it (`ls -ld` shows its owner).",
    )
