"""Hold the folder and DVC's cache against dvc.lock, by reading every byte.

DVC and `reprise repro` take a file for unchanged while its size and times are; here every file is hashed. Memory is
bounded by the names of the files: their bytes are read in blocks.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from pipeline.graph import dvc
from pipeline.graph.lock_file import outputs_of, read_lock
from pipeline.graph.remotes.listings import LARGEST_LISTING, BadListing, Member, read_listing
from pipeline.graph.remotes.stored_shards import problems_of_store
from pipeline.processes.git import git
from reprise.artifacts.layout import DATA
from reprise.config.errors import GitError
from reprise.storage.content_hashes import DIR, ContentHashes, IrregularFile, md5_of_members, read_regular

_SHOWN = 10  # files named for one output
_SAY_SECONDS = 2.0
_IGNORED = (".dvcignore", ".gitignore", "README.md")


@dataclass
class Verification:
    """The result of a verification.

    Attributes:
        outputs: number of outputs that dvc.lock records.
        size: bytes that were read.
        problems: output -> what differs in the folder, in words.
        missing: outputs that are not in the folder.
        cache: output -> what differs in DVC's cache.
        uncached: outputs of which DVC's cache lacks objects, as after `dvc gc`; that is no difference.
        stored: shards in a store that are not there as data/shards says.
        unlisted: files and folders of data/ that are neither in an output nor in git, with their numbers of files.
    """

    outputs: int = 0
    size: int = 0
    problems: dict[str, list[str]] = field(default_factory=dict)
    cache: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    uncached: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    unlisted: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether everything is what dvc.lock says."""
        return not (self.problems or self.missing or self.cache or self.stored)

    def lines(self) -> list[str]:
        """Return a line for each output that differs, and one that sums up."""
        lines = [f"{path}: {_first(found)}" for path, found in self.problems.items()]
        lines += [f"{path} in DVC's cache: {_first(found)}" for path, found in self.cache.items()]
        if self.stored:
            lines.append(f"shards in their store: {_first(self.stored)}")
        if self.missing:
            lines.append(f"missing, until `reprise pull` or `reprise repro` brings it back: {_first(self.missing)}")
        if self.uncached:
            lines.append(f"not or not wholly in DVC's cache, so not compared there: {_first(self.uncached)}")
        if self.unlisted:
            found = [f"{path} ({count} files)" if count > 1 else path for path, count in self.unlisted.items()]
            lines.append(f"in no output, so compared with nothing: {_first(found)}")
        differ = len({*self.problems, *self.missing, *self.cache, *self.stored})
        verdict = "nothing differs from dvc.lock" if self.passed else f"{differ} differ from dvc.lock"
        return [*lines, f"{self.outputs} outputs, {self.size / 1e6:.1f} MB read: {verdict}"]


class _Progress:
    """Counts bytes from several threads, and says how far it is every two seconds."""

    def __init__(self, total: int, say: Callable[[str], None]) -> None:
        self.read, self._total, self._say = 0, total, say
        self._lock, self._next = threading.Lock(), time.monotonic() + _SAY_SECONDS

    def add(self, count: int) -> None:
        with self._lock:
            self.read += count
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + _SAY_SECONDS
            line = f"read {self.read / 1e9:.2f} of {self._total / 1e9:.2f} GB"
        self._say(line)


def verify(root: Path = Path(), say: Callable[[str], None] = lambda line: None) -> Verification:
    """Compare data/, every other output, and the cache with dvc.lock. The caller must hold `exclusive`.

    Args:
        root: the project folder.
        say: gets a line of progress every two seconds.

    Raises:
        GraphError: dvc.lock cannot be read.
    """
    outs = outputs_of(read_lock(root))
    cache = dvc.cache_folder(root) / "files/md5"
    listings, result = {}, Verification(len(outs))
    for path, name in outs.items():
        if name.endswith(DIR):
            listings[path] = _listing(cache, name, path, result)
    folders = {path: _files_below(root / path) for path in outs}
    objects = {path: _objects(name, listings.get(path)) for path, name in outs.items()}
    paths = [str(file) for files in folders.values() for file in files.values()]
    cached = [str(_object_path(cache, name)) for names in objects.values() for name in names]
    progress = _Progress(_total_size([*paths, *cached]), say)
    hashes = ContentHashes(record=None).md5s(_once([*paths, *cached]), on_bytes=progress.add)
    for path, name in outs.items():
        _compare_output(root / path, path, name, listings.get(path), folders[path], hashes, result)
        _compare_objects(cache, path, name, objects[path], hashes, result)
    result.stored = problems_of_store(root)
    result.unlisted = _unlisted_files(root, outs)
    result.size = progress.read
    return result


def _listing(cache: Path, name: str, path: str, result: Verification) -> list[Member] | None:
    """Read the listing of a folder from the cache; None if it is missing or refused."""
    try:
        return read_listing(read_regular(_object_path(cache, name), LARGEST_LISTING + 1, follow=False), name)
    except FileNotFoundError:
        result.uncached.append(path)
    except (BadListing, OSError) as error:
        result.cache[path] = [f"the listing {name} is refused: {error}"]
    return None


def _object_path(cache: Path, name: str) -> Path:
    return cache / name[:2] / name[2:]


def _objects(name: str, members: list[Member] | None) -> list[str]:
    """Return the names of the file objects of an output."""
    if not name.endswith(DIR):
        return [name]
    return list(dict.fromkeys(member.md5 for member in members or ()))


def _files_below(path: Path) -> dict[str, Path]:
    """Return the files of an output by their names below it, as DVC counts them; "" is the output itself."""
    if not path.is_dir():
        return {"": path} if os.path.lexists(path) else {}
    return {file.relative_to(path).as_posix(): file for file in _walk(path)}


def _walk(top: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if not _left_out(name))
        for name in [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            folders.remove(name)  # DVC does not enter it either
            yield Path(folder, name)
        yield from (Path(folder, name) for name in sorted(names) if not _left_out(name))


def _left_out(name: str) -> bool:
    """Return whether .dvcignore leaves a file out; kept short, because data/ holds nothing else of the kind."""
    return any(fnmatch(name, pattern) for pattern in ("__pycache__", "*.pyc", "*.egg-info", ".partial-*", *_IGNORED))


def _total_size(paths: list[str]) -> int:
    total = 0
    for path in _once(paths):
        if os.path.isfile(path):
            total += os.stat(path).st_size
    return total


def _once(paths: list[str]) -> list[str]:
    return list(dict.fromkeys(paths))


def _compare_output(
    place: Path,
    path: str,
    name: str,
    members: list[Member] | None,
    files: dict[str, Path],
    hashes: dict[str, str | OSError],
    result: Verification,
) -> None:
    """Say what differs between an output in the folder and dvc.lock."""
    if not files and not place.is_dir():
        result.missing.append(path)
        return
    found = {below: hashes[str(file)] for below, file in files.items()}
    unreadable = {below: error for below, error in found.items() if isinstance(error, OSError)}
    problems = [f"{below or path} ({_reason(error)})" for below, error in sorted(unreadable.items())]
    md5s = {below: md5 for below, md5 in found.items() if isinstance(md5, str)}
    if not name.endswith(DIR) and not problems and md5s != {"": name}:
        problems.append(f"has the MD5 {md5s.get('', 'of no file')} instead of {name}")
    if name.endswith(DIR) and not problems and ("" in md5s or md5_of_members(md5s) != name):
        problems += _differences(md5s, members) or [f"other files or bytes than the listing {name} has"]
    if problems:
        result.problems[path] = problems


def _differences(md5s: dict[str, str], members: list[Member] | None) -> list[str]:
    """Name the files that differ from the listing, if that could be read."""
    if members is None or "" in md5s:
        return []
    expected = {member.name: member.md5 for member in members}
    words = []
    for below in sorted(md5s.keys() | expected.keys()):
        if md5s.get(below) != expected.get(below):
            state = "missing" if below not in md5s else "extra" if below not in expected else "altered"
            words.append(f"{below} ({state})")
    return words


def _compare_objects(
    cache: Path, path: str, name: str, objects: list[str], hashes: dict[str, str | OSError], result: Verification
) -> None:
    """Say which objects of an output differ in the cache."""
    for md5 in objects:
        found = hashes[str(_object_path(cache, md5))]
        if isinstance(found, FileNotFoundError):
            if path not in result.uncached:
                result.uncached.append(path)
        elif isinstance(found, OSError):
            result.cache.setdefault(path, []).append(f"the object {md5} ({_reason(found)})")
        elif found != md5:
            result.cache.setdefault(path, []).append(f"the object {md5} has the MD5 {found}")


def _unlisted_files(root: Path, outs: dict[str, str]) -> dict[str, int]:
    """Count the files of data/ that lie in no output and are not git's, by file or folder right below data/."""
    inside = tuple(f"{out}/" for out in outs)
    files = [file.relative_to(root).as_posix() for file in _walk(root / DATA)] if (root / DATA).is_dir() else []
    files = [file for file in files if file not in outs and not file.startswith(inside)]
    try:
        tracked = set(git("ls-files", "-z", "--", str(DATA), cwd=root).split("\0")) if files else set()
    except GitError:
        tracked = set()
    counts: dict[str, int] = {}
    for file in files:
        if file not in tracked:
            top = "/".join(file.split("/")[:2])
            place = file if any(out.startswith(f"{top}/") for out in outs) else top
            counts[place] = counts.get(place, 0) + 1
    return counts


def _reason(error: OSError) -> str:
    return "no regular file" if isinstance(error, IrregularFile) else (error.strerror or str(error))


def _first(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
