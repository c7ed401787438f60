"""dvc.lock: which stages it records and with what, an unreadable one set aside, entries of removed stages dropped.

DVC writes this file in place, so a kill may leave half of it. Its form here is DVC's own, byte for byte: a
`dvc repro` after a rewrite changes nothing.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.graph.graph import Graph
from reprise.config.errors import GraphError
from reprise.storage.atomic import atomic_file

LOCK_FILE = "dvc.lock"


def read_lock(root: Path = Path()) -> dict[str, Any]:
    """Entries by stage name as plain data; empty when there is no dvc.lock.

    Raises:
        GraphError: the file cannot be read as a DVC lock file.
    """
    path = root / LOCK_FILE
    if not path.exists():
        return {}
    return _entries(path, YAML(typ="safe"))["stages"]


def set_aside_unreadable_lock(root: Path = Path()) -> Path | None:
    """Rename a dvc.lock that cannot be read to dvc.lock.broken-<n>; what it recorded is still in the run-cache.

    Returns:
        The new name, or None when dvc.lock is absent or whole.
    """
    try:
        read_lock(root)
    except GraphError:
        n = 1
        while (aside := root / f"{LOCK_FILE}.broken-{n}").exists():
            n += 1
        (root / LOCK_FILE).rename(aside)
        return aside
    return None


def fit_lock(graph: Graph, root: Path = Path()) -> tuple[list[str], list[str]]:
    """Make dvc.lock name the stages of `graph` only, in its order.

    DVC names the stages of a matrix by position, so a row added in the middle gives later rows new names. An
    entry is recognised by its command, which names run and seed, and moves to its present name. DVC runs
    independent stages in an order that Python's hash seed decides, so the order of entries is put right too:
    the same results give the same file.

    Returns:
        Names of dropped entries, and of moved ones ("old -> new").

    Raises:
        GraphError: dvc.lock cannot be read.
    """
    path = root / LOCK_FILE
    if not path.exists():
        return [], []
    entries = read_lock(root)
    names = _present_names(graph, entries)
    dropped = [old for old in entries if old not in names]
    moved = [f"{old} -> {new}" for old, new in names.items() if old != new]
    if list(entries) == list(names.values()):
        return [], []
    yaml = YAML()  # round trip with DVC's settings: dvc/utils/serialize/_yaml.py
    yaml.default_flow_style = False
    document = _entries(path, yaml)
    entries = document["stages"]
    kept = {new: entries[old] for old, new in names.items()}
    entries.clear()
    entries.update(kept)
    text = io.StringIO()
    yaml.dump(document, text)
    with atomic_file(path, "w") as file:
        file.write(text.getvalue())
    return dropped, moved


def _present_names(graph: Graph, entries: dict[str, Any]) -> dict[str, str]:
    """Old name -> present name of each entry that is worth keeping, in the order of the graph."""
    name_of = {stage.cmd: stage.name for stage in graph.stages}
    names: dict[str, str] = {}
    for old, entry in entries.items():
        new = name_of.get(entry["cmd"])
        if new == old or (new and new not in names.values() and entries.get(new, {}).get("cmd") != entry["cmd"]):
            names[old] = new
    for old, entry in entries.items():  # the command's wording changed, its outputs did not: DVC says what reruns
        stage = graph.by_name.get(old)
        outs = [out["path"] for out in entry.get("outs", [])]
        if old not in names and stage and old not in names.values() and sorted(outs) == sorted(stage.outs):
            names[old] = old
    order = {stage.name: position for position, stage in enumerate(graph.stages)}
    return dict(sorted(names.items(), key=lambda pair: order[pair[1]]))


def _entries(path: Path, yaml: YAML) -> Any:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError, ValueError) as error:
        raise _unreadable(path, str(error).splitlines()[0]) from error
    stages = document.get("stages") if isinstance(document, dict) else None
    if not isinstance(stages, dict) or "schema" not in document:
        raise _unreadable(path, "no 'schema' and 'stages'")
    for name, entry in stages.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("cmd"), str):
            raise _unreadable(path, f"stage '{name}' without its command")
        for kind in ("deps", "outs"):
            listed = entry.get(kind, [])
            if not isinstance(listed, list) or not all(isinstance(x, dict) and _hashed(x) for x in listed):
                raise _unreadable(path, f"stage '{name}' with unfinished {kind}")
    return document


def _hashed(listed: dict[str, Any]) -> bool:
    return isinstance(listed.get("path"), str) and isinstance(listed.get("md5"), str)


def _unreadable(path: Path, found: str) -> GraphError:
    return GraphError(
        "dvc.lock cannot be read; a kill may have interrupted DVC while it wrote it",
        where=path,
        found=found,
        fix="Run `reprise repro` (or `make repro`): it sets the file aside and goes on from the run-cache.",
    )
