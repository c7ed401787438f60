"""Which of the project's files a stage's process can import: read from the source, nothing is run.

Follows every `import` of the file, also those inside functions; imports under TYPE_CHECKING do not run and do
not count. Packages' `__init__.py` count unless they hold a docstring only. Plug-ins that a room looks up by
file name are added by whoever asks.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


def reach(root: Path, entries: list[Path]) -> set[Path]:
    """Files below `root` that `entries` import, directly or not, with `entries` themselves; relative to `root`."""
    found: set[Path] = set()
    todo = list(entries)
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += imported(root, path)
    return found


@cache
def imported(root: Path, path: Path) -> tuple[Path, ...]:
    """Files below `root` that one file imports itself."""
    modules = [name for name, _ in imports(root / path)]
    files = [file for module in modules for file in _files(root, module)]
    return tuple(dict.fromkeys(files))


@cache
def imports(path: Path) -> list[tuple[str, int]]:
    """Modules that a file names in its imports, `from a import b` as both `a` and `a.b`, with line numbers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; name the module in full"
            module = node.module or ""
            found += [(module, node.lineno), *((f"{module}.{alias.name}", node.lineno) for alias in node.names)]
    return found


def _files(root: Path, module: str) -> list[Path]:
    parts = module.split(".")
    files = [Path(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)]
    files.append(Path(*parts[:-1], f"{parts[-1]}.py"))
    return [file for file in files if (root / file).is_file() and not _docstring_only(root / file)]


@cache
def _docstring_only(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return path.name == "__init__.py" and all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body
    )
