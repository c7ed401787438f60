"""Plug-ins by name: a method, a miner, a probe or a backbone is one file, and its name is the file's.

Nothing registers itself and nobody keeps a list: adding a file adds the name. A kind of plug-in is looked up in

1. Reprise's own folder of that kind (`KINDS`),
2. the user's folder `plugins/<kind>` beside params.yaml, that is, below the current directory,
3. the entry points of installed packages, group `reprise.<kind>` (name: the plug-in's; value: its module).

A folder may sort its files into families: `methods/contrastive/simclr.py` is called `simclr`. Two plug-ins of one kind
never share a name, wherever they come from. Names are listed by reading folders; only `load_class` and `load_module`
import a plug-in, so that listing costs no import of torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from reprise.config.errors import ParameterError
from reprise.config.texts.suggest import nearest

T = TypeVar("T")
USERS = "plugins"  # the user's folder, and the package that its files are imported from
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Kind:
    """One kind of plug-in.

    Attributes:
        noun: what one of them is called in messages.
        package: the dotted name of Reprise's own folder.
        otherwise: the plug-in that stands for every name that no file has; empty: other names are errors.
    """

    noun: str
    package: str
    otherwise: str = ""


# Probes come in suites, each a kind of its own: `probes/quality`.
KINDS = {
    "sources": Kind("source", "stages.ingest.sources"),
    "extractors": Kind("extractor", "stages.mine.extractors"),
    "miners": Kind("miner", "stages.mine.miners"),
    "models": Kind("model", "reprise.training.models"),
    "methods": Kind("method", "stages.pretrain.methods"),
    "changes": Kind("change", "stages.pretrain.changes"),
    "watches": Kind("watch", "stages.pretrain.watches"),
    "backbones": Kind("backbone", "reprise.networks.backbones", otherwise="timm"),
    "schedules": Kind("schedule", "reprise.training.schedules"),
    "shifts": Kind("shift", "stages.embed.shifts"),
    "probes": Kind("probe", "stages.probe.probes"),
    "sections": Kind("section of the report", "stages.report.sections"),
}


@dataclass(frozen=True)
class PlugIn:
    """A plug-in that was found and not yet imported.

    Attributes:
        name: how parameters call it.
        module: the dotted name to import.
        file: its source; None for an entry point, whose file is looked for when it is needed.
        package: the installed package that declares the entry point; empty for files.
    """

    name: str
    module: str
    file: Path | None
    package: str = ""

    def __str__(self) -> str:
        return _shown(self.file) if self.file else f"{self.module} of the installed package {self.package}"


def names(kind: str) -> list[str]:
    """List the names of all plug-ins of a kind, sorted ("methods" -> ["barlow_twins", "byol", ...]).

    Raises:
        ParameterError: two plug-ins share a name, or a file's name cannot be a plug-in's name.
    """
    return sorted(_found(kind))


def noun(kind: str) -> str:
    """Return what one plug-in of a kind is called in messages ("method")."""
    return _kind(kind).noun


def suites() -> list[str]:
    """List the suites of probes: the folders in which probes lie, and those that installed packages name."""
    folders = [_own_folder(KINDS["probes"].package), _users_folder() / "probes"]
    installed = {g.removeprefix("reprise.probes.") for g in _entry_points() if g.startswith("reprise.probes.")}
    return sorted({p.name for folder in folders for p in _subfolders(folder)} | installed)


def kinds() -> list[str]:
    """List all kinds of plug-ins, each suite of probes by itself ("methods", "probes/quality", ...)."""
    return [kind for known in KINDS for kind in ([f"probes/{s}" for s in suites()] if known == "probes" else [known])]


def kinds_named(word: str) -> list[str]:
    """List the kinds that a word means: "methods", "method", "probes" (all suites), "probes/quality" or "quality".

    Raises:
        ParameterError: the word means no kind.
    """
    known = kinds()
    found = [kind for kind in known if word in _words_for(kind)]
    if not found:
        words = list(dict.fromkeys(kind.partition("/")[0] for kind in known))
        raise ParameterError(
            f"there is no kind of plug-in called '{word}'",
            where="kinds of plug-ins",
            found=word,
            fix=f"Use one of: {', '.join(words)}.{nearest(word, [w for kind in known for w in _words_for(kind)])}",
        )
    return found


def _words_for(kind: str) -> list[str]:
    top, _, suite = kind.partition("/")
    singular = KINDS[top].noun.partition(" ")[0]
    return [kind, top, singular, *([suite, f"{singular}/{suite}"] if suite else [])]


def origin(kind: str, name: str) -> str:
    """Return where a plug-in comes from: "Reprise", the user's "plugins/", or the name of an installed package.

    Raises:
        ParameterError: no plug-in has that name.
    """
    plug_in = _find(kind, name, "")
    if plug_in.file is None:
        return f"package {plug_in.package}"
    return f"{USERS}/" if plug_in.file.is_relative_to(_users_folder()) else "Reprise"


def module_of(kind: str, name: str, where: str = "") -> str:
    """Return the dotted name of a plug-in's module ("stages.pretrain.methods.contrastive.simclr").

    Args:
        kind: a key of `KINDS`, or `probes/<suite>`.
        name: the plug-in's name.
        where: the parameter that gave the name, for the message ("runs[1].method").

    Raises:
        ParameterError: no plug-in has that name.
    """
    return _find(kind, name, where).module


def family_of(kind: str, name: str) -> str:
    """Return the folder that a plug-in's file is sorted into ("contrastive"); empty where there is none.

    Raises:
        ParameterError: no plug-in has that name.
    """
    file = _find(kind, name, "").file
    own = _own_folder(f"{_kind(kind).package}.{kind.partition('/')[2]}".rstrip("."))
    return file.parent.name if file and file.parent not in (own, _users_folder() / kind) else ""


def location(kind: str, name: str, where: str = "") -> Path:
    """Return the absolute path of a plug-in's source file, without importing it; see `module_of`.

    Raises:
        ParameterError: no plug-in has that name, or an entry point names a module that has no source file.
    """
    plug_in = _find(kind, name, where)
    if plug_in.file:
        return plug_in.file
    file = _file_of(plug_in.module)
    if file is None:
        raise ParameterError(
            f"the {_kind(kind).noun} '{name}' has no source file",
            where=where or kind,
            found=plug_in,
            fix="Correct the entry point of that package: its value is the name of a module.",
        )
    return file


def load_module(kind: str, name: str, where: str = "") -> ModuleType:
    """Import a plug-in; see `module_of`.

    Raises:
        ParameterError: no plug-in has that name, or its file cannot be imported.
    """
    plug_in = _find(kind, name, where)
    if plug_in.module.startswith(f"{USERS}."):
        _provide_users_package()
    try:
        return importlib.import_module(plug_in.module)
    except (ImportError, SyntaxError, AttributeError, NameError, TypeError, ValueError, LookupError, OSError) as error:
        raise ParameterError(
            f"the {_kind(kind).noun} '{name}' cannot be imported",
            where=where or kind,
            found=f"{type(error).__name__} in {plug_in}: {error}",
            fix="Correct that file.",
        ) from error


def load_class(kind: str, name: str, base: type[T], where: str) -> type[T]:
    """Import a plug-in and return the one subclass of `base` that its file defines; see `module_of`.

    Raises:
        ParameterError: no plug-in has that name, its file cannot be imported, or it defines no such class or several.
    """
    return subclass_in(load_module(kind, name, where), base)


def subclass_in(module: ModuleType, base: type[T]) -> type[T]:
    """Return the single subclass of `base` defined in `module` itself; imported ones do not count."""
    found = [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, base) and c is not base and c.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ParameterError(
            f"a plug-in's file must define exactly one subclass of {base.__name__}",
            where=module.__name__,
            found=f"{len(found)} ({', '.join(c.__name__ for c in found) or 'none'})",
            fix="Keep one such class in the file and move shared code to a module that plug-ins import.",
        )
    return found[0]


def _find(kind: str, name: str, where: str) -> PlugIn:
    found = _found(kind)
    plug_in = found.get(name) or found.get(_kind(kind).otherwise)
    if plug_in is None:
        raise ParameterError(
            f"unknown {_kind(kind).noun} '{name}'",
            where=where or kind,
            found=name,
            fix=f"Use one of: {', '.join(sorted(found))}.{nearest(name, sorted(found))}",
        )
    return plug_in


def _found(kind: str) -> dict[str, PlugIn]:
    """Collect all plug-ins of a kind by name, and refuse names that two of them share."""
    _, _, suite = kind.partition("/")
    package = f"{_kind(kind).package}.{suite}".rstrip(".")
    below = kind.replace("/", ".")
    found: dict[str, PlugIn] = {}
    for plug_in in (
        *_in_folder(_own_folder(package), package),
        *_in_folder(_users_folder() / kind, f"{USERS}.{below}"),
        *_entry_points().get(f"reprise.{below}", ()),
    ):
        other = found.setdefault(plug_in.name, plug_in)
        if other.module != plug_in.module:
            raise ParameterError(
                f"two plug-ins of the kind '{kind}' are called '{plug_in.name}'",
                where=kind,
                found=f"{other} and {plug_in}",
                fix="Rename one of them, or remove it.",
            )
    return found


def _kind(kind: str) -> Kind:
    """Return the entry of KINDS for "methods" or "probes/quality"; anything else is a defect of the caller."""
    return KINDS[kind.partition("/")[0]]


def _in_folder(folder: Path, package: str) -> Iterator[PlugIn]:
    """Find the plug-ins in a folder and in its families; a folder that does not exist has none."""
    for family in (folder, *_subfolders(folder)):
        inside = package if family is folder else f"{package}.{family.name}"
        for name in sorted(entry.name for entry in _entries(family) if entry.name.endswith(".py")):
            if name.startswith(("_", ".")):
                continue
            stem = name.removesuffix(".py")
            if not _NAME.fullmatch(stem):
                raise ParameterError(
                    "a plug-in's file needs a name of lower-case letters, digits and underscores",
                    where=_shown(folder),
                    found=name,
                    fix="Rename the file, or begin its name with an underscore if it is no plug-in.",
                )
            yield PlugIn(stem, f"{inside}.{stem}", family / name)


def _subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder that can be packages."""
    found = [e.name for e in _entries(folder) if e.name.isidentifier() and e.name[0] != "_" and e.is_dir()]
    return [folder / name for name in sorted(found)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """List what a folder holds; `Path.glob` takes several times as long, and a check of params.yaml lists hundreds."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # there is no such folder
        return []


@cache
def _own_folder(package: str) -> Path:
    """Return the folder of one of Reprise's packages without importing it."""
    top, *below = package.split(".")
    spec = importlib.util.find_spec(top)
    assert spec is not None, package
    return Path(next(iter(spec.submodule_search_locations or ()))).joinpath(*below)


def _users_folder() -> Path:
    """Return the user's folder of plug-ins: commands run in the folder that holds params.yaml."""
    return Path.cwd() / USERS


@cache
def _entry_points() -> dict[str, list[PlugIn]]:
    """Collect what installed packages declare, by group; read once a process, because it takes 16 ms."""
    from importlib import metadata

    declared = metadata.entry_points()
    return {
        group: [
            PlugIn(entry.name, entry.module, None, entry.dist.name if entry.dist else "of unknown name")
            for entry in declared.select(group=group)
        ]
        for group in declared.groups
        if group.startswith("reprise.")
    }


def _file_of(module: str) -> Path | None:
    """Find a module's file by reading folders: `importlib.util.find_spec` would import the packages above it."""
    top, *below = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not below:
        return Path(spec.origin).absolute() if spec.origin else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder).joinpath(*below)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file.absolute()
    return None


def _provide_users_package() -> None:
    """Make `plugins` the package of the user's folder, so that its files import each other by that name.

    It needs no folder on sys.path and no `__init__.py`. An installed package of the same name, or the folder of another
    project that this process used before, gives way.
    """
    folder = str(_users_folder())
    importlib.invalidate_caches()  # files may have been written since the folder was last read
    if list(getattr(sys.modules.get(USERS), "__path__", ())) == [folder]:
        return
    for name in [m for m in sys.modules if m == USERS or m.startswith(f"{USERS}.")]:
        del sys.modules[name]
    package = ModuleType(USERS, "The plug-ins of the user's project.")
    package.__path__ = [folder]
    package.__spec__ = ModuleSpec(USERS, None, is_package=True)
    package.__spec__.submodule_search_locations = [folder]
    sys.modules[USERS] = package


def _shown(path: Path) -> str:
    """Return a path for messages: relative to the current directory where it lies below it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
