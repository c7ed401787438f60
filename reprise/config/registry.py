"""Lookup by file name: a method, miner, extractor, probe or source is one file, and its name is the file's.

Nothing registers itself and nobody keeps a list: adding a file adds the name.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

from reprise.config.errors import ParameterError

T = TypeVar("T")


def names(package: str) -> list[str]:
    """Names of the plug-ins in `package`, sorted ("stages.pretrain.methods" -> ["gsimclr", "random", ...])."""
    folder = importlib.import_module(package)
    return sorted(m.name for m in pkgutil.iter_modules(folder.__path__) if not m.name.startswith("_") and not m.ispkg)


def nearest(word: object, choices: list[str]) -> str:
    """` Did you mean 'x'?` when a choice is close to `word`, else an empty string."""
    close = difflib.get_close_matches(str(word), choices, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def load_class(package: str, name: str, base: type[T], where: str) -> type[T]:
    """The one subclass of `base` that the file `package/name.py` defines.

    Args:
        where: the parameter that gave the name, for the message ("runs[1].method").

    Raises:
        ParameterError: no such file.
    """
    known = names(package)
    if name not in known:
        raise ParameterError(
            f"unknown {package.rsplit('.', 1)[-1].rstrip('s')} '{name}'",
            where=where,
            found=name,
            fix=f"Use one of: {', '.join(known)}.{nearest(name, known)}",
        )
    return subclass_in(importlib.import_module(f"{package}.{name}"), base)


def subclass_in(module: ModuleType, base: type[T]) -> type[T]:
    """The single subclass of `base` defined in `module` itself (imports do not count)."""
    found = [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, base) and c is not base and c.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ParameterError(
            f"a plug-in file must define exactly one subclass of {base.__name__}",
            where=module.__name__,
            found=f"{len(found)} ({', '.join(c.__name__ for c in found) or 'none'})",
            fix="Keep one such class in the file and move shared code to a lower floor.",
        )
    return found[0]
