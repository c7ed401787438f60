"""What counts in a Python file: its imports, its definitions without comments, and the names of files that it holds.

Words are comments, docstrings, blank lines and the meanings of parameters. They are cut by their position in the text,
because `ast.unparse` writes the same program differently on different versions of Python.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import tokenize
from dataclasses import dataclass
from functools import lru_cache

from reprise.config.errors import StorageError

DECLARATION = "RUNS_ALSO"  # names what a file loads in a way that cannot be read from its imports
MEANING = "meaning"  # the function that holds the words about a parameter (reprise/config/params.py)
_DIGITS = 16  # of each digest: 64 bits
_FILE_NAME = re.compile(r"[\w.-]{3,60}")  # what a string must look like to name a file or folder


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
    typing_only = _typing_only(tree) if "TYPE_CHECKING" in text else set()
    nodes = [node for node in ast.walk(tree) if id(node) not in typing_only]
    strings = {
        n.value
        for n in nodes
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and _FILE_NAME.fullmatch(n.value)
    }
    return Source(tuple(dict.fromkeys(_imports(tree, nodes, where))), _definitions(tree, lines), frozenset(strings))


def significant_lines(text: str, tree: ast.Module | None = None) -> list[tuple[int, str]]:
    """Cut comments, docstrings, meanings of parameters and blank lines out of a program.

    Returns:
        (number from 1, text without trailing blanks) of each line that remains. Lines inside a string over several
        lines are kept as they are, blank ones included: they are part of a value.
    """
    text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    cuts: dict[int, list[tuple[int, int]]] = {}  # line -> columns to cut
    tree = tree or ast.parse(text)
    for start, end in [*_docstrings(tree, lines), *_comments(text)]:
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
    return _without_meanings(text, tree, kept)


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


def _without_meanings(text: str, tree: ast.Module, lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Write each statement that holds `meaning(...)` on one line, without the words about the parameter.

    The line breaks go as well: a formatter puts them where the length of the words makes it.
    """
    if MEANING not in text:  # most files, and walking the tree takes as long as parsing it
        return lines
    replaced: dict[int, str] = {}
    dropped: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.AnnAssign | ast.Assign):
            continue
        inner = list(ast.walk(node))
        words = any(isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == MEANING for n in inner)
        if words and not any(isinstance(n, ast.JoinedStr) for n in inner):  # Pythons differ in the tokens of f-strings
            last = node.end_lineno or node.lineno
            replaced[node.lineno] = _bare_statement([t for t in _tokens(text) if node.lineno <= t.start[0] <= last])
            dropped.update(range(node.lineno, last + 1))
    kept = [(row, line) for row, line in lines if row not in dropped]
    return sorted([*kept, *replaced.items()])


def _bare_statement(tokens: list[tokenize.TokenInfo]) -> str:
    """Join the tokens of a statement, without comments, `meaning(...)` and commas that end a list in brackets."""
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    words = [token.string for token in tokens if token.type not in layout]
    bare: list[str] = []
    opened: list[bool] = []  # for each open bracket: is it a call or a subscript, where a last comma says nothing?
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == MEANING and words[position : position + 1] == ["("]:
            position = _after_brackets(words, position)
            if bare[-1:] == [","]:
                bare.pop()
            continue
        if word in ("(", "[", "{"):
            opened.append(bool(bare) and (bare[-1].isidentifier() or bare[-1] in (")", "]")))
        elif word in (")", "]", "}") and opened and opened.pop() and bare[-1] == ",":
            bare.pop()
        bare.append(word)
    return " ".join(bare)


def _after_brackets(words: list[str], position: int) -> int:
    """Find the position behind the bracket that closes the one at `position`."""
    depth = 0
    for number in range(position, len(words)):
        depth += (words[number] in ("(", "[", "{")) - (words[number] in (")", "]", "}"))
        if depth == 0:
            return number + 1
    return len(words)


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
    return {name: short_digest("\n".join(text).encode()) for name, text in sorted(texts.items())}


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


def short_digest(data: bytes) -> str:
    """Digest bytes by the first digits of their SHA-256."""
    return hashlib.sha256(data).hexdigest()[:_DIGITS]
