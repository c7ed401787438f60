"""Let DVC move the previous outputs of a stage aside instead of removing them, until the stage has made new ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dvc_objects.fs.local import LocalFileSystem

from pipeline.graph.previous_outputs import forget, set_aside


def keep_previous(remove: Callable[..., None]) -> Callable[..., None]:
    """Wrap `Output.remove`, which DVC calls for each output before it runs a stage."""

    def keep(self: Any, ignore_remove: bool = False) -> None:
        if ignore_remove or not _is_local(self) or not set_aside(_path(self), _root(self)):
            remove(self, ignore_remove=ignore_remove)

    return keep


def forget_previous(run: Callable[..., None]) -> Callable[..., None]:
    """Wrap `Stage._run_stage`, which runs the command or restores what the run cache has."""

    def ran(self: Any, *args: Any, **kwargs: Any) -> None:
        run(self, *args, **kwargs)
        outs = [out for out in self.outs if _is_local(out)]
        if outs:
            forget([_path(out) for out in outs], _root(outs[0]))

    return ran


def _is_local(out: Any) -> bool:
    return isinstance(out.fs, LocalFileSystem)


def _root(out: Any) -> Path:
    return Path(out.repo.root_dir)


def _path(out: Any) -> str:
    return Path(os.path.relpath(out.fs_path, out.repo.root_dir)).as_posix()
