"""Which stages' code changed since DVC recorded it, and which definitions in which files.

`data/code` holds the fingerprints that DVC's stages depend on, as of the last run. `stages.check` writes the present
ones to a working folder whenever the code or params.yaml changed, so that a question costs no run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.graph.graph import Graph
from reprise.artifacts.layout import CODE, PRESENT_CODE
from reprise.storage.fingerprint import Fingerprint, changed_definitions


def changed_code(graph: Graph, root: Path = Path()) -> dict[str, dict[str, list[str]]]:
    """Compare the present fingerprints with the recorded ones.

    Returns:
        Stage -> path below data/code -> what differs, a line a file; only what differs. Empty where nothing is
        recorded yet: DVC itself says that those files are missing.
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


def _compare(recorded: Path, present: Path) -> list[str]:
    old, new = _read(recorded), _read(present)
    if new is None or old == new:
        return []
    return ["new"] if old is None else changed_definitions(old, new)


def _read(path: Path) -> Fingerprint | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, Mapping) else None  # type: ignore[return-value]
