"""Remove what a run, seed, label set, extractor or suite that left params.yaml has left in data/ and dvc.lock.

A folder is removed only if it looks like an output of the graph (`data/<stage>/<name>/<seed>[/<suite>]`) and no stage
writes it any more. Anything else in these places is left alone and reported. DVC's cache keeps the removed results, so
a row that comes back is restored without running.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.graph.graph import Graph
from pipeline.graph.lock_file import fit_lock
from pipeline.graph.workspace import dvc_at_rest

# Folders below data/, and the levels of names between each of them and an output.
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
    """What `prune` has done.

    Attributes:
        folders: folders that were removed.
        entries: entries that were removed from dvc.lock.
        moved: entries of dvc.lock that were renamed ("old -> new").
        foreign: files and folders that were left alone because they are no outputs of the graph.
    """

    folders: tuple[str, ...]
    entries: tuple[str, ...]
    moved: tuple[str, ...]
    foreign: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return a line for each kind of change that was made, and one for what was left alone."""
        lines = []
        if self.folders:
            lines.append(f"removed, because params.yaml no longer lists them: {', '.join(self.folders)}")
        if self.entries:
            lines.append(f"removed from dvc.lock: {', '.join(self.entries)}")
        if self.moved:
            lines.append(f"renamed in dvc.lock, because rows of params.yaml moved: {', '.join(self.moved)}")
        if self.foreign:
            lines.append(f"left alone, because they are not outputs of the graph: {', '.join(self.foreign)}")
        return lines


def prune(graph: Graph, root: Path = Path()) -> Pruned:
    """Remove the outputs and lock entries that no stage of the graph writes any more.

    Args:
        graph: the graph.
        root: the project folder.

    Raises:
        GraphError: dvc.lock cannot be read.
    """
    with dvc_at_rest(root):
        entries, moved = fit_lock(graph, root)
        outs = {out for stage in graph.stages for out in stage.outs}
        folders: list[str] = []
        foreign: list[str] = []
        for name, levels in LAYOUT.items():
            _prune_level(root, f"data/{name}", levels, outs, folders, foreign)
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
            shutil.rmtree(child)  # it holds nothing but emptied folders and a .gitignore
