"""List what there is: stages with their states, and plug-ins with a line of their documentation."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from pipeline.graph.definition import Graph
from reprise.config.errors import ParameterError, printable
from reprise.config.registry import kinds, kinds_named, location, names, origin


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


def list_plug_ins(word: str | None = None) -> list[tuple[str, str, str, str]]:
    """Return (kind, name, description, origin) of plug-ins, without importing them.

    Args:
        word: a kind ("methods", "probes/quality"), its noun, or a suite of probes; None: all kinds.

    Raises:
        ParameterError: the word means no kind.
    """
    return [
        (kind, name, _description(kind, name), origin(kind, name))
        for kind in (kinds() if word is None else kinds_named(word))
        for name in names(kind)
    ]


def _description(kind: str, name: str) -> str:
    """Return the first sentence or line of a plug-in's documentation."""
    try:
        text = ast.get_docstring(ast.parse(location(kind, name).read_text(encoding="utf-8"))) or "(no docstring)"
    except (SyntaxError, ValueError) as error:
        return printable(f"(cannot be read: {error})", 120)
    except ParameterError as error:
        return printable(f"({error.what})", 120)
    first = re.sub(r"^`[\w./]+`: ", "", " ".join(text.split("\n\n")[0].split()))
    return printable(re.split(r"(?<!al)\. ", first)[0].rstrip("."), 160)
