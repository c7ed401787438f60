"""Fingerprints of code: what a process can run of this project, less what cannot change its results.

The fingerprint of some modules is their import closure: every project file that they import, directly or not, at the
top of a file or inside a function, with a digest for each definition in it. Comments, docstrings, blank lines and the
meanings of parameters are cut away before anything is hashed, so rewording them leaves every fingerprint as it was.
They are cut by their position in the text, because `ast.unparse` writes the same program differently on different
versions of Python.

Three things are not imports and still count:

- A file that is not Python and lies in a package's folder, or in a folder below that holds no Python, belongs to the
  modules of that package that name it in a string (templates, style sheets, suites of expectations).
- `RUNS_ALSO`, a tuple of dotted module names at the top of a file, names what the file loads in a way that cannot be
  read from its imports.
- Plug-ins, which are looked up by name, are added by whoever knows the names (stages/check/code.py).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import ClassVar

from reprise.config.errors import StorageError
from reprise.storage.atomic import write_json
from reprise.storage.code.places import PACKAGES, code_folders, folder_of
from reprise.storage.code.source import Source, read_source, short_digest
from reprise.storage.system.signatures import Signature, signature_of

CACHE = Path(".reprise/fingerprints.json")
_CACHED_FILES = 1500
_RACY_NS = 2_000_000_000  # nanoseconds; a file as young as this may change again without a change of its times
_FORM = 2  # of the cached records; whoever changes reprise/storage/code/source.py raises it

Fingerprint = dict[str, dict[str, str]]  # file -> definition -> digest; "" is the rest of the file


def fingerprint(modules: Iterable[str], roots: Mapping[str, Path] | None = None) -> Fingerprint:
    """Compute the fingerprint of the import closure of `modules`.

    Args:
        modules: dotted names ("stages.pretrain.__main__").
        roots: package name -> folder that holds the package; by default what `roots_of` finds.

    Returns:
        Digests by definition by file, sorted; files are named from the folder that holds their package.

    Raises:
        StorageError: a module has no file, or a file cannot be parsed.
    """
    waiting = list(modules)
    roots = roots_of(waiting) if roots is None else roots
    sources = _sources(CACHE.absolute())
    sources.forget_folders()
    result: Fingerprint = {}
    seen: set[str] = set()
    for module in waiting:
        if _file_of(module, roots) is None:
            raise StorageError(
                "a module has no source file",
                where="code fingerprint",
                found=module,
                fix="Check the name, and that the file is there.",
            )
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        waiting += [parent for n in range(1, module.count(".") + 1) if (parent := module.rsplit(".", n)[0]) not in seen]
        file = _file_of(module, roots)
        if file is None:  # a name imported from a module, or another project's
            continue
        root = roots[module.partition(".")[0]]
        source = sources.read(file)
        waiting += [name for name in source.imports if name.partition(".")[0] in roots]
        if source.definitions:
            result[file.relative_to(root).as_posix()] = source.definitions
        for other in sources.beside(file.parent, source.strings):
            result[other.relative_to(root).as_posix()] = _digest_of_bytes(other)
    sources.save()
    return dict(sorted(result.items()))


def digest_of(code: Fingerprint) -> str:
    """One hexadecimal digest of a fingerprint, for keys of caches."""
    return hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()


def present_definitions(code: Fingerprint) -> Fingerprint:
    """Compute the digests of the same files as they are now, less the files that are gone."""
    sources = _sources(CACHE.absolute())
    present: Fingerprint = {}
    for name in code:
        file = source_file(name)
        if file.is_file():
            present[name] = sources.read(file).definitions if file.suffix == ".py" else _digest_of_bytes(file)
    sources.save()
    return present


def source_file(name: str) -> Path:
    """Return the path of a file that a fingerprint names, such as "stages/report/text.py"."""
    package = name.partition("/")[0]
    return _root_of(package, str(Path.cwd())) / name


@cache
def _root_of(package: str, folder: str) -> Path:
    """The folder that holds a package; plug-ins lie in the current folder, which is an argument for the cache only."""
    return roots_of([package]).get(package, folder_of(package))


def file_in_closure(module: str) -> str | None:
    """Return the name that fingerprints give to the file of one of our modules, or None for any other module."""
    package = module.partition(".")[0]
    if package not in (*PACKAGES, "plugins"):
        return None
    root = _root_of(package, str(Path.cwd()))
    file = _file_of(module, {package: root})
    return file.relative_to(root).as_posix() if file else None


def _digest_of_bytes(file: Path) -> dict[str, str]:
    return {"": short_digest(file.read_bytes())}


def digest_of_project(root: Path) -> str:
    """One hexadecimal digest of params.yaml and of all code that can judge it or be part of a fingerprint."""
    params = root / "params.yaml"
    total = hashlib.sha256(params.read_bytes() if params.is_file() else b"missing")
    sources = _sources(CACHE.absolute())
    for package, folder in {**code_folders(root), "plugins": root / "plugins"}.items():
        for file in sorted(folder.resolve().rglob("*")):
            name = Path(package, file.relative_to(folder.resolve())).as_posix()
            if not file.is_file() or file.suffix in (".pyc", ".md") or name.startswith("reprise/installed/"):
                continue
            found = sources.read(file).definitions if file.suffix == ".py" else short_digest(file.read_bytes())
            total.update(json.dumps([name, found]).encode())
    sources.save()
    return total.hexdigest()


def changed_definitions(old: Fingerprint, new: Fingerprint) -> list[str]:
    """Say file by file what differs: "stages/report/text.py (shortened, Table.row)".

    A file that only one of the two has is named as new or gone.
    """
    lines = []
    for file in sorted(old.keys() | new.keys()):
        if file not in old:
            lines.append(f"{file} (new)")
        elif file not in new:
            lines.append(f"{file} (no longer used)")
        elif old[file] != new[file]:
            names = sorted(n for n in old[file].keys() | new[file].keys() if old[file].get(n) != new[file].get(n))
            inside = [name for name in names if name]
            lines.append(f"{file} ({', '.join(inside)})" if inside else file)
    return lines


def roots_of(modules: Iterable[str]) -> dict[str, Path]:
    """Find the folders that hold this project's packages, the user's own plug-ins, and installed plug-ins' packages."""
    roots = {package: folder_of(package) for package in PACKAGES} | {"plugins": Path.cwd()}
    for package in {module.partition(".")[0] for module in modules} - roots.keys():
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            origin = Path(spec.origin)
            roots[package] = origin.parents[1] if spec.submodule_search_locations else origin.parent
    return roots


# ---- files -----------------------------------------------------------------------------------------------------------


def _file_of(module: str, roots: Mapping[str, Path]) -> Path | None:
    """The file of a module, or None where there is none: the name of a function, or another project's module."""
    package, *rest = module.split(".")
    if package not in roots:
        return None
    path = roots[package].joinpath(package, *rest)
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if file.is_file():
            return file
    return None


def _data_files(folder: Path) -> list[Path]:
    """Files in a package's folder that are not Python, and all files of folders below it that hold no Python."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != "__pycache__" and not any(path.rglob("*.py")):
            found += [inner for inner in sorted(path.rglob("*")) if inner.is_file()]
        elif path.is_file() and path.suffix not in (".py", ".pyc", ".md"):
            found.append(path)
    return found


@cache
def _sources(path: Path) -> _SourceCache:
    """The one cache of this process for the file `path`: opening it takes longer than most look-ups."""
    return _SourceCache(path)


class _SourceCache:
    """Records of files by the hash of their bytes: parsing 300 files takes seconds, looking them up almost no time.

    Losing the file costs time only; two processes that write it at once each leave a whole one.
    """

    _parsed: ClassVar[dict[str, Source]] = {}  # by hash: a process that works in several folders parses a file once

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: dict[Path, tuple[Signature | None, Source]] = {}  # what this process has read already
        self._records: dict[str, dict] = {}
        self._beside: dict[Path, list[Path]] = {}
        self._new = False
        with suppress(OSError, ValueError, KeyError, TypeError):
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["form"] == _FORM and isinstance(stored["records"], dict):
                self._records = stored["records"]

    def read(self, file: Path) -> Source:
        before = signature_of(file)
        known, source = self._read.get(file, (None, None))
        if source is not None and known is not None and known == before:
            return source
        source = self._look_up(file)
        if before is not None and time.time_ns() - before[1] > _RACY_NS and signature_of(file) == before:
            self._read[file] = before, source
        return source

    def _look_up(self, file: Path) -> Source:
        data = file.read_bytes()
        key = hashlib.sha256(data).hexdigest()
        record = self._records.get(key)
        with suppress(KeyError, TypeError, AttributeError):
            if record is not None:
                return Source(tuple(record["imports"]), dict(record["definitions"]), frozenset(record["strings"]))
        if key not in self._parsed:
            self._parsed[key] = read_source(data.decode("utf-8"), str(file))
        source = self._parsed[key]
        self._records[key] = {
            "imports": list(source.imports),
            "definitions": source.definitions,
            "strings": sorted(source.strings),
        }
        self._new = True
        return source

    def forget_folders(self) -> None:
        """List folders anew from here on."""
        self._beside.clear()

    def beside(self, folder: Path, strings: frozenset[str]) -> list[Path]:
        """Files of a package that are not Python and whose name, or whose folder's, is one of a module's strings."""
        if folder not in self._beside:
            self._beside[folder] = _data_files(folder)
        return [file for file in self._beside[folder] if file.name in strings or file.parent.name in strings]

    def save(self) -> None:
        if self._new:
            newest = dict(list(self._records.items())[-_CACHED_FILES:])
            with suppress(OSError, StorageError):  # a cache that cannot be written is no reason to stop
                write_json(self._path, {"form": _FORM, "records": newest})
            self._new = False
