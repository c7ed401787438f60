"""Fingerprints of code: what a process can run of this project, less what cannot change its results.

The fingerprint of some modules is their import closure: every project file that they import, directly or not, at the
top of a file or inside a function, with a digest for each definition in it. Comments, docstrings and blank lines are
cut away before anything is hashed, so rewording them leaves every fingerprint as it was. They are cut by their position
in the text, because `ast.unparse` writes the same program differently on different versions of Python.

Three things are not imports and still count:

- A file that is not Python and lies in a package's folder, or in a folder below that holds no Python, belongs to the
  modules of that package that name it in a string (templates, style sheets, suites of expectations).
- `RUNS_ALSO`, a tuple of dotted module names at the top of a file, names what the file loads in a way that cannot be
  read from its imports.
- Plug-ins, which are looked up by name, are added by whoever knows the names (stages/check/code.py).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import json
import re
import tokenize
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from reprise.config.errors import StorageError
from reprise.storage.atomic import write_json

PROJECT = Path(__file__).resolve().parents[2]  # holds the packages below
PACKAGES = ("reprise", "stages")
DECLARATION = "RUNS_ALSO"
CACHE = Path(".reprise/fingerprints.json")
_DIGITS = 16  # of each digest: 64 bits
_CACHED_FILES = 1500
_FILE_NAME = re.compile(r"[\w.-]{3,60}")  # what a string must look like to name a file or folder
_FORM = 1  # of the cached records; a change of `read_source` raises it

Fingerprint = dict[str, dict[str, str]]  # file -> definition -> digest; "" is the rest of the file


@dataclass(frozen=True)
class Source:
    """What one Python file holds.

    Attributes:
        imports: dotted names that it imports; `from a import b` gives both `a` and `a.b`.
        definitions: digest by definition: functions, classes, methods ("Class.method"), and "" for the rest.
        strings: short string constants, among which names of files are looked for.
    """

    imports: tuple[str, ...]
    definitions: dict[str, str]
    strings: frozenset[str]


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
    sources = _SourceCache()
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
            result[other.relative_to(root).as_posix()] = {"": _digest(other.read_bytes())}
    sources.save()
    return dict(sorted(result.items()))


def digest_of(code: Fingerprint) -> str:
    """One hexadecimal digest of a fingerprint, for keys of caches."""
    return hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()


def digest_of_project(root: Path) -> str:
    """One hexadecimal digest of params.yaml and of all code that can judge it or be part of a fingerprint."""
    params = root / "params.yaml"
    total = hashlib.sha256(params.read_bytes() if params.is_file() else b"missing")
    sources = _SourceCache()
    for package in (*PACKAGES, "plugins"):
        for file in sorted((root / package).rglob("*")):
            if not file.is_file() or file.suffix in (".pyc", ".md"):
                continue
            found = sources.read(file).definitions if file.suffix == ".py" else _digest(file.read_bytes())
            total.update(json.dumps([file.relative_to(root).as_posix(), found]).encode())
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
    roots = dict.fromkeys(PACKAGES, PROJECT) | {"plugins": Path.cwd()}
    for package in {module.partition(".")[0] for module in modules} - roots.keys():
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            origin = Path(spec.origin)
            roots[package] = origin.parents[1] if spec.submodule_search_locations else origin.parent
    return roots


# ---- one file --------------------------------------------------------------------------------------------------------


def read_source(text: str, where: str = "source") -> Source:
    """Take a Python file apart: imports, digests of its definitions, short strings.

    Raises:
        StorageError: it is not valid Python.
    """
    try:
        tree = ast.parse(text)
        lines = significant_lines(text, tree)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        raise StorageError(
            "a source file cannot be parsed", where=where, found=error, fix="Correct the file; nothing was run."
        ) from error
    typing_only = _typing_only(tree)
    nodes = [node for node in ast.walk(tree) if id(node) not in typing_only]
    strings = {
        n.value
        for n in nodes
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and _FILE_NAME.fullmatch(n.value)
    }
    return Source(tuple(dict.fromkeys(_imports(tree, nodes, where))), _definitions(tree, lines), frozenset(strings))


def significant_lines(text: str, tree: ast.Module | None = None) -> list[tuple[int, str]]:
    """Cut comments, docstrings and blank lines out of a program.

    Returns:
        (number from 1, text without trailing blanks) of each line that remains. Lines inside a string over several
        lines are kept as they are, blank ones included: they are part of a value.
    """
    text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    cuts: dict[int, list[tuple[int, int]]] = {}  # line -> columns to cut
    for start, end in [*_docstrings(tree or ast.parse(text), lines), *_comments(text)]:
        for row in range(start[0], end[0] + 1):
            first = start[1] if row == start[0] else 0
            last = end[1] if row == end[0] else len(lines[row - 1])
            cuts.setdefault(row, []).append((first, last))
    inside = _inside_strings(text)
    kept = []
    for row, line in enumerate(lines, 1):
        rest = line
        for first, last in sorted(cuts.get(row, []), reverse=True):
            rest = rest[:first] + rest[last:]
        if (row in inside and row not in cuts) or (rest := rest.rstrip()):
            kept.append((row, rest))
    return kept


def _docstrings(tree: ast.Module, lines: list[str]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Positions (row from 1, column in characters) of all docstrings."""
    spans = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                start, end = (first.lineno, first.col_offset), (first.end_lineno or 0, first.end_col_offset or 0)
                spans.append((_in_characters(start, lines), _in_characters(end, lines)))
    return spans


def _in_characters(position: tuple[int, int], lines: list[str]) -> tuple[int, int]:
    """Turn ast's column, which counts bytes of UTF-8, into one that counts characters."""
    row, column = position
    return row, len(lines[row - 1].encode()[:column].decode())


def _comments(text: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    return [(token.start, token.end) for token in _tokens(text) if token.type == tokenize.COMMENT]


def _inside_strings(text: str) -> set[int]:
    """Rows whose line end lies inside a string; Python 3.12 and later give an f-string as several tokens."""
    rows: set[int] = set()
    begins: list[int] = []
    start, end = getattr(tokenize, "FSTRING_START", -1), getattr(tokenize, "FSTRING_END", -1)
    for token in _tokens(text):
        if token.type == tokenize.STRING:
            rows.update(range(token.start[0], token.end[0]))
        elif token.type == start:
            begins.append(token.start[0])
        elif token.type == end:
            rows.update(range(begins.pop(), token.end[0]))
    return rows


@lru_cache(maxsize=2)  # asked for twice in a row: for comments and for strings
def _tokens(text: str) -> tuple[tokenize.TokenInfo, ...]:
    return tuple(tokenize.generate_tokens(io.StringIO(text).readline))


def _definitions(tree: ast.Module, lines: list[tuple[int, str]]) -> dict[str, str]:
    """Digest the lines of each function, class and method; empty for a file that only has docstrings and comments."""
    owner: dict[int, str] = {}  # row -> name of the innermost definition
    heads: dict[int, str] = {}  # first row of a definition -> its name, which stands for it in what surrounds it

    def claim(body: list[ast.stmt], prefix: str, deeper: bool) -> None:
        for node in body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            name = f"{prefix}{node.name}"
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            heads[first] = name
            owner.update(dict.fromkeys(range(first, (node.end_lineno or first) + 1), name))
            if deeper and isinstance(node, ast.ClassDef):
                claim(node.body, f"{name}.", deeper=False)

    claim(tree.body, "", deeper=True)
    texts: dict[str, list[str]] = {}
    for row, line in lines:
        name = owner.get(row, "")
        if row in heads:
            texts.setdefault(name.rpartition(".")[0], []).append(f"<{name}>")  # keeps the order of definitions
        texts.setdefault(name, []).append(line)
    return {name: _digest("\n".join(text).encode()) for name, text in sorted(texts.items())}


def _typing_only(tree: ast.Module) -> set[int]:
    """Ids of nodes under `if TYPE_CHECKING:`, which never run."""
    return {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and any(getattr(n, "id", getattr(n, "attr", "")) == "TYPE_CHECKING" for n in ast.walk(node.test))
        for statement in node.body
        for inner in ast.walk(statement)
    }


def _imports(tree: ast.Module, nodes: list[ast.AST], where: str) -> list[str]:
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise StorageError(
                    "a relative import cannot be followed",
                    where=f"{where}:{node.lineno}",
                    found=f"from {'.' * node.level}{node.module or ''} import ...",
                    fix="Name the module in full.",
                )
            names += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == DECLARATION for target in targets):
            names += ast.literal_eval(statement.value)  # type: ignore[attr-defined]
    return names


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


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


class _SourceCache:
    """Records of files by the hash of their bytes: parsing three hundred files takes seconds, looking them up none.

    Losing the file costs time only; two processes that write it at once each leave a whole one.
    """

    def __init__(self) -> None:
        self._records: dict[str, dict] = {}
        self._beside: dict[Path, list[Path]] = {}
        self._new = False
        with suppress(OSError, ValueError, KeyError, TypeError):
            stored = json.loads(CACHE.read_text(encoding="utf-8"))
            if stored["form"] == _FORM and isinstance(stored["records"], dict):
                self._records = stored["records"]

    def read(self, file: Path) -> Source:
        data = file.read_bytes()
        key = hashlib.sha256(data).hexdigest()
        record = self._records.get(key)
        with suppress(KeyError, TypeError, AttributeError):
            if record is not None:
                return Source(tuple(record["imports"]), dict(record["definitions"]), frozenset(record["strings"]))
        source = read_source(data.decode("utf-8"), str(file))
        self._records[key] = {
            "imports": list(source.imports),
            "definitions": source.definitions,
            "strings": sorted(source.strings),
        }
        self._new = True
        return source

    def beside(self, folder: Path, strings: frozenset[str]) -> list[Path]:
        """Files of a package that are not Python and whose name, or whose folder's, is one of a module's strings."""
        if folder not in self._beside:
            self._beside[folder] = _data_files(folder)
        return [file for file in self._beside[folder] if file.name in strings or file.parent.name in strings]

    def save(self) -> None:
        if self._new:
            newest = dict(list(self._records.items())[-_CACHED_FILES:])
            with suppress(OSError, StorageError):  # a cache that cannot be written is no reason to stop
                write_json(CACHE, {"form": _FORM, "records": newest})
            self._new = False
