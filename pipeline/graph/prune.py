"""Remove what a run, seed, label set, extractor or suite that left params.yaml has left in data/ and dvc.lock.

A folder is removed only if it looks like an output of the graph (see `LAYOUT`) and no stage writes it any more.
Anything else in these places is left alone and reported. DVC's cache keeps the removed results, so a row that comes
back is restored without running.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.graph.definition import Graph
from pipeline.graph.lock_file import fit_lock
from pipeline.graph.workspace import hold_dvc_lock
from reprise.artifacts.layout import DATA

# The outputs below data/ whose names come from the tables of params.yaml.
LAYOUT = (
    "features/{name}/{seed}",
    "mine/{name}/{seed}",
    "trained/{seed}",
    "runs/{name}/{seed}",
    "embed/{name}/{seed}",
    "probe/{name}/{seed}/features",
    "probe/{name}/{seed}/images/{name}",
    "probe/_shifts/{name}",
    "shifts/{name}/images",
    "shifts/{name}/embed",
)
_PATTERN = {"{name}": r"[a-z][a-z0-9_]{0,47}", "{seed}": r"[0-9]{1,10}"}


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
    with hold_dvc_lock(root):
        entries, moved = fit_lock(graph, root)
        outs = {out for stage in graph.stages for out in stage.outs}
        folders: list[str] = []
        foreign: list[str] = []
        for top in dict.fromkeys(output.split("/")[0] for output in LAYOUT):
            below = [tuple(output.split("/")[1:]) for output in LAYOUT if output.startswith(f"{top}/")]
            _prune_level(root, (DATA / top).as_posix(), below, outs, folders, foreign)
    return Pruned(tuple(folders), tuple(entries), tuple(moved), tuple(foreign))


def _prune_level(
    root: Path, parent: str, layouts: list[tuple[str, ...]], outs: set[str], folders: list[str], foreign: list[str]
) -> None:
    """Prune below `parent`; each of `layouts` is the names that lead from there to an output."""
    folder = root / parent
    if folder.is_symlink() or not folder.is_dir():
        return
    for child in sorted(folder.iterdir()):
        path = f"{parent}/{child.name}"
        if child.name == ".gitignore":  # written by DVC beside outputs
            continue
        if path in outs:
            continue
        below = [
            layout[1:] for layout in layouts if re.fullmatch(_PATTERN.get(layout[0], re.escape(layout[0])), child.name)
        ]
        if child.is_symlink() or not child.is_dir() or not below:
            foreign.append(path)
            continue
        if () in below:
            shutil.rmtree(child)
            folders.append(path)
            continue
        before = len(foreign)
        _prune_level(root, path, below, outs, folders, foreign)
        if len(foreign) == before and not any(out.startswith(f"{path}/") for out in outs):
            shutil.rmtree(child)  # it holds nothing but emptied folders and a .gitignore
