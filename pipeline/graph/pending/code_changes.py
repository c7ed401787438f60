"""Find the stages whose code changed since DVC recorded it, and the definitions that changed.

`data/code` holds the fingerprints that the stages depend on, as of the last run. `stages.check` writes the current ones
to a working folder whenever the code or params.yaml changed, so they can be compared without a run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.graph.definition import Graph
from reprise.artifacts.layout import CODE, PRESENT_CODE, READS
from reprise.storage.code.fingerprint import Fingerprint, changed_definitions


def changed_code(graph: Graph, root: Path = Path()) -> dict[str, dict[str, list[str]]]:
    """Compare the current fingerprints with the recorded ones.

    Args:
        graph: the graph.
        root: the project folder.

    Returns:
        Stage -> path below data/code -> a line per changed file, for changed fingerprints only. The mapping is empty if
        nothing has been recorded yet; DVC itself then reports the files as missing.
    """
    if not (root / CODE).is_dir():
        return {}
    compared: dict[str, list[str]] = {}
    changes: dict[str, dict[str, list[str]]] = {}
    for stage in graph.stages:
        for dep in stage.deps:
            if not dep.startswith(f"{CODE.as_posix()}/"):
                continue
            if dep not in compared:
                compared[dep] = _compare(root / dep, root / PRESENT_CODE / Path(dep).relative_to(CODE))
            if compared[dep]:
                changes.setdefault(stage.name, {})[dep] = compared[dep]
    return changes


def _compare(recorded: Path, current: Path) -> list[str]:
    old, new = _read(recorded), _read(current)
    if new is None or old == new:
        return []
    if recorded.name == READS.name:
        return ["which facts the methods of the runs read"]
    return ["new"] if old is None else changed_definitions(old, new)


def _read(path: Path) -> Fingerprint | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, Mapping) else None  # type: ignore[return-value]
