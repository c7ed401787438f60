"""What there is, for people: stages with their state, methods with a line of their documentation."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.graph.graph import Graph
from reprise.config.errors import printable


def stage_states(graph: Graph, status: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(DVC's name, title, state) of every stage in graph order.

    Args:
        status: what `dvc status --json` printed.
    """
    behind = set(graph.downstream(status))
    rows = []
    for stage in graph.stages:
        if stage.name in status:
            state = "changed"
        elif stage.name in behind:
            state = "follows a change"
        else:
            state = "up to date"
        rows.append((stage.name, stage.title, state))
    return rows


def described_plugins(folder: Path) -> list[tuple[str, str]]:
    """(name, first line of the docstring) of each plug-in file in a folder, read without importing it."""
    found = []
    for path in sorted(folder.glob("*.py")):
        if path.name.startswith("_"):
            continue
        try:
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "(no docstring)"
        except (SyntaxError, ValueError) as error:
            text = f"(cannot be read: {error})"
        found.append((path.stem, printable(text.splitlines()[0], 120)))
    return found


def described_methods(folder: Path) -> list[tuple[str, str, str, str]]:
    """(name, what it is, source, what it needs) of each method file, read without importing it.

    The source is the beginning of the docstring's paragraph "Source: ..."; needs are what the class declares.
    """
    rows = []
    for name, line in described_plugins(folder):
        try:
            tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        except (SyntaxError, ValueError):
            rows.append((name, line, "", ""))
            continue
        what = re.sub(r"^`\w+`: ", "", line).rstrip(".")
        rows.append((name, what, _source(ast.get_docstring(tree) or ""), ", ".join(_needs(tree)) or "-"))
    return rows


def _source(docstring: str) -> str:
    paragraphs = [" ".join(part.split()) for part in docstring.split("\n\n")]
    text = next((part.removeprefix("Source: ") for part in paragraphs if part.startswith("Source: ")), "-")
    return printable(re.split(r"(?<!al)\. |;|, on |\.$", text)[0], 200)


def _needs(tree: ast.Module) -> list[str]:
    body = [item for node in tree.body if isinstance(node, ast.ClassDef) for item in node.body]
    declared = {
        target.id: ast.unparse(item.value)
        for item in body
        if isinstance(item, ast.Assign)
        for target in item.targets
        if isinstance(target, ast.Name)
    }
    functions = {item.name for item in body if isinstance(item, ast.FunctionDef)}
    return [
        *(["a label set"] if declared.get("needs_labels") == "True" else []),
        *(["no gradients"] if declared.get("gradient_free") == "True" else []),
        *(["a network of its own"] if "own_backbone" in functions else []),
        *(["crops of its own"] if "view_plan" in functions else []),
    ]
