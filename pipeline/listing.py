"""What there is, for people: stages with their state, methods with a line of their documentation."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.graph import Graph
from stages.contracts.errors import printable


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
