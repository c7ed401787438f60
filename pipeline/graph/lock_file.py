"""Read and rewrite dvc.lock: set an unreadable file aside, and drop the entries of removed stages.

DVC writes the file in place, so a kill may leave half of it. A rewritten file has DVC's own format, byte for byte, so
the next `dvc repro` does not change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from pipeline.graph.definition import Graph
from pipeline.graph.lock_text import LockText
from reprise.config.errors import GraphError
from reprise.storage.atomic import atomic_file

LOCK_FILE = "dvc.lock"
_SCHEMA = "2.0"
REFUSED = "refused: "  # begins each line in which DVC's process (pipeline/graph/in_dvc) names an object that it refused


def read_lock(root: Path = Path()) -> dict[str, Any]:
    """Return the entries by stage name as plain data, or an empty mapping if there is no dvc.lock.

    Raises:
        GraphError: the file is not a readable DVC lock file.
    """
    path = root / LOCK_FILE
    if not path.exists():
        return {}
    return _checked(_text(path), path).content["stages"]


def parse_lock(text: str, where: object) -> dict[str, Any]:
    """Return the entries of a lock file that is given as text, by stage name.

    Raises:
        GraphError: the text is no readable DVC lock file.
    """
    return _checked(text, where).content["stages"]


def outputs_of(entries: dict[str, Any]) -> dict[str, str]:
    """Return the path of each output in entries of dvc.lock, with the name of its object in the cache."""
    return {out["path"]: out["md5"] for entry in entries.values() for out in entry.get("outs", [])}


def set_aside_unreadable_lock(root: Path = Path()) -> Path | None:
    """Rename an unreadable dvc.lock to dvc.lock.broken-<n>; the run cache still holds what it recorded.

    Returns:
        The new path, or None if dvc.lock is absent or readable.
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
    """Rewrite dvc.lock so that it holds entries of the graph's stages only, in the graph's order.

    DVC names the stages of a matrix by position, so a row that is added in the middle gives later rows new names. An
    entry is recognised by its command, which names the run and the seed, and is moved to its current name. The entries
    are also sorted, because DVC runs independent stages in an order that depends on Python's hash seed: the same
    results then give the same file.

    Returns:
        The names of the dropped entries, and those of the moved entries ("old -> new").

    Raises:
        GraphError: dvc.lock cannot be read.
    """
    path = root / LOCK_FILE
    if not path.exists():
        return [], []
    entries = read_lock(root)
    names = _current_names(graph, entries)
    dropped = [old for old in entries if old not in names]
    moved = [f"{old} -> {new}" for old, new in names.items() if old != new]
    if list(entries) == list(names.values()):
        return [], []
    _keep(names, path)
    return dropped, moved


def drop_entries(names: Iterable[str], root: Path = Path()) -> None:
    """Remove the entries of some stages from dvc.lock.

    Raises:
        GraphError: dvc.lock cannot be read.
    """
    gone = set(names)
    _keep({name: name for name in read_lock(root) if name not in gone}, root / LOCK_FILE)


def put_entries(entries: Mapping[str, Any], root: Path = Path(), drop: Iterable[str] = ()) -> None:
    """Put entries into dvc.lock in place of those of the same names, and drop some; all others are left.

    Args:
        entries: the new entries by stage name.
        root: the project folder.
        drop: names of entries to remove.

    Raises:
        GraphError: the file is there and cannot be read.
    """
    path = root / LOCK_FILE
    text = _text(path) if path.exists() else ""
    lock = _checked(text, path) if text else LockText(text)
    if not text:
        lock.content.update({"schema": _SCHEMA, "stages": {}})
    for name in drop:
        lock.content["stages"].pop(name, None)
    lock.content["stages"].update(entries)
    _write(lock.changed(), path)


def _write(text: str, path: Path) -> None:
    with atomic_file(path, "w") as file:
        file.write(text)


def _keep(names: dict[str, str], path: Path) -> None:
    """Rewrite dvc.lock with these entries only, in this order, each under its new name.

    Args:
        names: the new name of each entry by its old one.
        path: the file.
    """
    lock = _checked(_text(path), path)
    stages = lock.content["stages"]
    lock.content["stages"] = {new: stages[old] for old, new in names.items()}
    _write(lock.changed(), path)


def _current_names(graph: Graph, entries: dict[str, Any]) -> dict[str, str]:
    """Map the old name of each entry that is worth keeping to its current name, in the order of the graph."""
    name_of = {stage.cmd: stage.name for stage in graph.stages}
    names: dict[str, str] = {}
    for old, entry in entries.items():
        new = name_of.get(entry["cmd"])
        if new == old or (new and new not in names.values() and entries.get(new, {}).get("cmd") != entry["cmd"]):
            names[old] = new
    # An entry whose command was reworded but whose outputs are the same is kept: DVC decides whether it must run.
    for old, entry in entries.items():
        stage = graph.by_name.get(old)
        outs = [out["path"] for out in entry.get("outs", [])]
        if old not in names and stage and old not in names.values() and sorted(outs) == sorted(stage.outs):
            names[old] = old
    order = {stage.name: position for position, stage in enumerate(graph.stages)}
    return dict(sorted(names.items(), key=lambda pair: order[pair[1]]))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _unreadable(path, error) from error


def _checked(text: str, path: object) -> LockText:
    try:
        lock = LockText(text)
    except (YAMLError, ValueError) as error:
        raise _unreadable(path, str(error).splitlines()[0]) from error
    stages = lock.content.get("stages") if isinstance(lock.content, dict) else None
    if not isinstance(stages, dict) or "schema" not in lock.content:
        raise _unreadable(path, "no 'schema' and 'stages'")
    for name, entry in stages.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("cmd"), str):
            raise _unreadable(path, f"stage '{name}' without its command")
        for key in ("deps", "outs"):
            files = entry.get(key, [])
            if not isinstance(files, list) or not all(isinstance(x, dict) and _has_hash(x) for x in files):
                raise _unreadable(path, f"stage '{name}' with unfinished {key}")
    return lock


def _has_hash(file: dict[str, Any]) -> bool:
    return isinstance(file.get("path"), str) and isinstance(file.get("md5"), str)


def _unreadable(path: object, found: object) -> GraphError:
    return GraphError(
        "dvc.lock cannot be read; DVC may have been killed while it wrote the file",
        where=path,
        found=found,
        fix="Run `reprise repro`: it sets the file aside and continues from the run cache.",
    )
