"""What a removed run, seed, label set, description or group left behind: folders in data/, entries in dvc.lock.

Only folders that look like an output of the graph (`data/<kind>/<name>/<seed>[/<group>]`) and that no stage of
the present graph writes are removed. Whatever else lies there is left alone and named. DVC's cache keeps the
removed results, so a row that comes back is restored without running.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.graph.graph import Graph
from pipeline.graph.lock_file import fit_lock
from pipeline.graph.workspace import dvc_at_rest

# Kinds of output below data/ and the names that lead to one: DESIGN "Directory names are stable".
LAYOUT = {
    "features": ("name", "seed"),
    "mine": ("name", "seed"),
    "runs": ("name", "seed"),
    "embed": ("name", "seed"),
    "probe": ("name", "seed", "group"),
}
_PATTERN = {
    "name": re.compile(r"[a-z][a-z0-9_]{0,47}"),
    "seed": re.compile(r"[0-9]{1,10}"),
    "group": re.compile(r"[a-z][a-z0-9_]{0,47}"),
}


@dataclass(frozen=True)
class Pruned:
    """What was done: removed folders, lock entries dropped, lock entries renamed, foreign things left alone."""

    folders: tuple[str, ...]
    entries: tuple[str, ...]
    moved: tuple[str, ...]
    foreign: tuple[str, ...]

    def lines(self) -> list[str]:
        """One line for each kind of thing, none where nothing happened."""
        lines = []
        if self.folders:
            lines.append(f"pruned, no longer in params.yaml: {', '.join(self.folders)}")
        if self.entries:
            lines.append(f"pruned from dvc.lock: {', '.join(self.entries)}")
        if self.moved:
            lines.append(f"renamed in dvc.lock, since rows moved: {', '.join(self.moved)}")
        if self.foreign:
            lines.append(f"left alone, not an output of the graph: {', '.join(self.foreign)}")
        return lines


def prune(graph: Graph, root: Path = Path()) -> Pruned:
    """Remove what no stage of `graph` writes any more.

    Raises:
        GraphError: dvc.lock cannot be read.
    """
    with dvc_at_rest(root):
        entries, moved = fit_lock(graph, root)
        outs = {out for stage in graph.stages for out in stage.outs}
        folders: list[str] = []
        foreign: list[str] = []
        for kind, levels in LAYOUT.items():
            _prune_level(root, f"data/{kind}", levels, outs, folders, foreign)
    return Pruned(tuple(folders), tuple(entries), tuple(moved), tuple(foreign))


def _prune_level(
    root: Path, parent: str, levels: tuple[str, ...], outs: set[str], folders: list[str], foreign: list[str]
) -> None:
    folder = root / parent
    if folder.is_symlink() or not folder.is_dir():
        return
    for child in sorted(folder.iterdir()):
        path = f"{parent}/{child.name}"
        if child.name == ".gitignore":  # written by DVC beside outputs
            continue
        if path in outs:
            continue
        if child.is_symlink() or not child.is_dir() or not _PATTERN[levels[0]].fullmatch(child.name):
            foreign.append(path)
            continue
        if len(levels) == 1:
            shutil.rmtree(child)
            folders.append(path)
            continue
        before = len(foreign)
        _prune_level(root, path, levels[1:], outs, folders, foreign)
        if len(foreign) == before and not any(out.startswith(f"{path}/") for out in outs):
            shutil.rmtree(child)  # nothing but emptied folders and a .gitignore
