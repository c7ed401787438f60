"""List what there is: stages with their states, and plug-ins with what their files say about themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.graph.definition import Graph
from reprise.config.plug_ins.docstrings import PlugInFacts, facts_of
from reprise.config.plug_ins.registry import kinds, kinds_named, names


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


def list_plug_ins(word: str | None = None) -> list[PlugInFacts]:
    """Return what the files of plug-ins say about themselves, without importing them.

    Args:
        word: a kind ("methods", "probes/quality"), its noun, or a suite of probes; None: all kinds.

    Raises:
        ParameterError: the word means no kind.
    """
    return [facts_of(kind, name) for kind in (kinds() if word is None else kinds_named(word)) for name in names(kind)]


def plug_in_table(plug_ins: Sequence[PlugInFacts], *, whole: bool) -> list[list[str]]:
    """Return a header and a row for each plug-in.

    Args:
        plug_ins: what their files say.
        whole: whether to add the source and the files that check a plug-in.
    """
    header = ["kind", "name", "description", *(["source", "checked by"] if whole else []), "maturity", "origin"]
    rows = [
        [p.kind, p.name, p.description]
        + ([p.source or "-", "; ".join(p.checked_by) or "-"] if whole else [])
        + [p.maturity, p.origin]
        for p in plug_ins
    ]
    return [header, *rows]
