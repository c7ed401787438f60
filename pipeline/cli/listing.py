"""List what there is: stages with their states, and methods with a line of their documentation."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from pipeline.graph.definition import Graph
from reprise.config.errors import printable
from reprise.config.registry import location, names


def list_stage_states(graph: Graph, status: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (DVC's name, title, state) of every stage in graph order.

    Args:
        graph: the graph.
        status: the output of `dvc status --json`, parsed.
    """
    downstream = set(graph.downstream(status))
    rows = []
    for stage in graph.stages:
        if stage.name in status:
            state = "changed"
        elif stage.name in downstream:
            state = "depends on a change"
        else:
            state = "up to date"
        rows.append((stage.name, stage.title, state))
    return rows


def list_plugins(kind: str) -> list[tuple[str, str]]:
    """Return (name, first line of the docstring) of each plug-in of a kind, without importing it."""
    rows = []
    for name in names(kind):
        try:
            text = ast.get_docstring(_parsed(kind, name)) or "(no docstring)"
        except (SyntaxError, ValueError) as error:
            text = f"(cannot be read: {error})"
        rows.append((name, printable(text.splitlines()[0], 120)))
    return rows


def list_methods() -> list[tuple[str, str, str, str]]:
    """Return (name, description, source, needs) of each method, without importing it.

    The source is the beginning of the docstring's paragraph "Source: ..."; the needs are what the class declares.
    """
    rows = []
    for name, line in list_plugins("methods"):
        try:
            tree = _parsed("methods", name)
        except (SyntaxError, ValueError):
            rows.append((name, line, "", ""))
            continue
        description = re.sub(r"^`\w+`: ", "", line).rstrip(".")
        rows.append((name, description, _source(ast.get_docstring(tree) or ""), ", ".join(_needs(tree)) or "-"))
    return rows


def _parsed(kind: str, name: str) -> ast.Module:
    return ast.parse(location(kind, name).read_text(encoding="utf-8"))


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
        *(["its own network"] if "own_backbone" in functions else []),
        *(["its own crops"] if "view_plan" in functions else []),
    ]
