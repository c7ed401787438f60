"""Run a point of a sweep in a folder of its own: a clone of the commit that shares DVC's cache with the project.

`.reprise/sweeps/<point>/tree` is cloned again for each attempt; `work` beside it holds the checkpoints of an unfinished
attempt. The outputs of finished stages are restored from the run cache, so nothing that a kill leaves in a clone
matters. Of the project itself only two things are written: objects of the cache, and the experiment's git ref.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.graph import dvc
from pipeline.graph.definition import load_graph
from pipeline.graph.lock_file import LOCK_FILE
from pipeline.graph.prune import prune
from pipeline.graph.remotes.revision_outputs import fetch_at
from pipeline.graph.stage_modules import check, scan
from pipeline.graph.workspace import STATE, SWEEPS
from pipeline.processes.commands import CommandFailed
from pipeline.processes.git import git
from pipeline.sweeps.plans import Point, write_changes
from reprise.artifacts.layout import METRICS, TABLE
from reprise.config.errors import SweepError
from reprise.config.params import read_yaml
from reprise.config.texts.addresses import expand_braces, is_address
from reprise.storage.atomic import atomic_file
from reprise.storage.content_hashes import REMEMBERED

SOURCE_LOCK, SHIFTS_LOCK = "source.lock.json", "shifts.lock.json"
COPIED_FILES = (
    LOCK_FILE,
    str(METRICS),
    SOURCE_LOCK,
    SHIFTS_LOCK,
)  # written by Reprise, not by people, so they need no commit
_SHARED_FOLDERS = (STATE / "decoded",)  # safe to share: keyed by content and built under a lock
_NO_HOOKS = ("-c", "core.hooksPath=/dev/null")
_END_SECONDS = 60.0  # for the processes of a killed sweep; a stage may take 45 to save its work
# Command lines of the processes that a killed sweep may leave; a person's shell in the folder is not ended.
_STAGE_COMMANDS = re.compile(r"dvc|stages|parent_death\.py")
_LONGEST_PATH = 1000  # characters
_fetch_lock = threading.Lock()


@dataclass(frozen=True)
class Base:
    """The commit that all points of a sweep start from.

    Attributes:
        root: the project folder.
        commit: the commit that is checked out.
        prefix: path of the project below the top of the git repository.
        source: digest of source.lock.json if it differs from the commit's, else "".
    """

    root: Path
    commit: str
    prefix: str
    source: str

    def ref(self, name: str) -> str:
        """Return the git ref of an experiment, in DVC's own layout, so that `dvc exp` finds it."""
        return f"refs/exps/{self.commit[:2]}/{self.commit[2:]}/{name}"

    def experiment(self, name: str) -> str | None:
        """Return the commit of an experiment on this base, or None if there is no such experiment."""
        return git("rev-parse", "--verify", "--quiet", self.ref(name), cwd=self.root).strip() or None


def find_base(root: Path) -> Base:
    """Find the commit that a sweep starts from.

    Raises:
        SweepError: there is no commit, or files that affect the results differ from it.
        GitError: git is missing or fails.
    """
    root = root.resolve()
    commit = git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", cwd=root).strip()
    if not commit:
        raise SweepError(
            "a sweep needs a git commit to start from",
            where=root,
            found="a repository without any commit",
            fix="Commit the project: `git add --all && git commit`.",
        )
    prefix = git("rev-parse", "--show-prefix", cwd=root).removesuffix("\n")
    status = git("status", "--porcelain", "-z", "--no-renames", "--", ".", cwd=root)
    states = {entry[3:].removeprefix(prefix): entry[:2] for entry in status.split("\0") if entry}
    unsaved = [path for path, state in states.items() if state != "??" and path not in COPIED_FILES]
    unsaved += [path for path, state in states.items() if state == "??" and path.startswith("stages/")]
    if unsaved:
        raise SweepError(
            "a sweep runs on a commit, and these files differ from it",
            where=root,
            found=", ".join(unsaved[:8]) + (f" and {len(unsaved) - 8} more" if len(unsaved) > 8 else ""),
            fix="Commit them: results that belong to no revision could not be told apart later.",
        )
    source = root / SOURCE_LOCK
    digest = hashlib.sha256(source.read_bytes()).hexdigest() if SOURCE_LOCK in states and source.is_file() else ""
    return Base(root, commit, prefix, digest)


@dataclass(frozen=True)
class PointClone:
    """The folder of one point.

    Attributes:
        base: what the clone is made from.
        point: the point.
        cache: DVC's cache, which all points share.
    """

    base: Base
    point: Point
    cache: Path

    @property
    def folder(self) -> Path:
        """The folder with everything that belongs to this point."""
        return self.base.root / SWEEPS / self.point.name

    @property
    def clone(self) -> Path:
        """The top folder of the clone."""
        return self.folder / "tree"

    @property
    def project(self) -> Path:
        """The project in the clone."""
        return self.clone / self.base.prefix

    @property
    def log(self) -> Path:
        """The file with all output of the last attempt."""
        return self.folder / "log.txt"

    def make(self) -> None:
        """Clone the commit and write the point's parameters; checkpoints of an earlier attempt are kept.

        Raises:
            SweepError: a parameter has no place in params.yaml, or processes of an earlier attempt do not end.
            GitError: git cannot clone.
        """
        end_processes_in(self.clone)
        shutil.rmtree(self.clone, ignore_errors=True)
        work = self.folder / "work"
        work.mkdir(parents=True, exist_ok=True)
        top = git("rev-parse", "--show-toplevel", cwd=self.base.root).removesuffix("\n")
        clone = ("clone", "--quiet", "--shared", "--no-checkout", "--", top, str(self.clone))
        git(*_NO_HOOKS, *clone, cwd=self.base.root)
        git(*_NO_HOOKS, "checkout", "--quiet", "--detach", self.base.commit, cwd=self.clone)
        for name in COPIED_FILES:
            if (self.base.root / name).is_file():
                shutil.copyfile(self.base.root / name, self.project / name)
        self._configure()
        (self.project / STATE).mkdir(exist_ok=True)
        (self.project / STATE / "work").symlink_to(work.resolve(), target_is_directory=True)
        (self.project / REMEMBERED).symlink_to((self.base.root / REMEMBERED).resolve())  # one cache, hashed once
        for shared in _SHARED_FOLDERS:
            (self.base.root / shared).mkdir(parents=True, exist_ok=True)
            (self.project / shared).symlink_to((self.base.root / shared).resolve(), target_is_directory=True)
        write_changes(self.project / "params.yaml", self.point.changes)
        self._link_source()

    def _configure(self) -> None:
        """Let DVC use the project's cache, and keep its notes about this folder inside the folder."""
        settings = {"cache.dir": str(self.cache), "core.site_cache_dir": str(self.project / ".dvc/tmp/site")}
        if link_types := dvc.setting("cache.type", self.base.root):
            settings["cache.type"] = link_types
        sections: dict[str, list[str]] = {}
        for key, value in settings.items():
            section, name = key.split(".")
            sections.setdefault(section, []).append(f"    {name} = {value}\n")
        with atomic_file(self.project / ".dvc/config.local", "w") as file:
            file.write("".join(f"[{section}]\n{''.join(lines)}" for section, lines in sections.items()))

    def _link_source(self) -> None:
        """Link what blocks of sources name by relative paths to the project's files, which git does not hold.

        These are roots, and paths among the options, such as a list of names; and what lies beside a root that is a
        file, since a table names files in its folder.
        """
        raw = read_yaml(self.project / "params.yaml")
        shifts = raw.get("shifts")
        for block in (raw.get("source"), *(shifts if isinstance(shifts, list) else ())):
            for path in _named_paths(block, self.base.root):
                here, there = self.project / path, self.base.root / path
                if there.exists() and not here.exists():
                    here.parent.mkdir(parents=True, exist_ok=True)
                    here.symlink_to(there.resolve())

    def run(self, on_line: Callable[[str], None], cancelled: threading.Event) -> None:
        """Check the parameters and bring the graph up to date.

        Args:
            on_line: called with each line of output.
            cancelled: ends the run when it is set.

        Raises:
            CommandFailed: a check or a stage ended with an error; `lines` holds its last output.
        """
        check(self.project, on_line=on_line)
        if any(re.match(r"(source|shifts)\b", key) for key in self.point.changes):
            scan(self.project, on_line=on_line)
        graph = load_graph(self.project)
        prune(graph, self.project)
        dvc.repro_all(graph, root=self.project, on_line=on_line, cancelled=cancelled)

    def save(self) -> str:
        """Save the results as an experiment of the project.

        Returns:
            The commit of the experiment.

        Raises:
            CommandFailed: DVC failed.
            GitError: git failed.
        """
        name, ref = self.point.name, self.base.ref(self.point.name)
        dvc.save_experiment(name, self.project)
        with _fetch_lock:
            fetch = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(self.clone), f"+{ref}:{ref}")
            git(*_NO_HOOKS, *fetch, cwd=self.base.root)
        commit = self.base.experiment(name)
        if commit is None:
            raise CommandFailed(["git", "fetch"], 1, [f"the experiment {name} did not arrive"])
        store_table(self.base.root, commit, self.project / TABLE)
        return commit

    def clear(self, *, everything: bool) -> None:
        """Remove the clone, and with `everything` also the log and the checkpoints."""
        end_processes_in(self.clone)
        shutil.rmtree(self.folder if everything else self.clone, ignore_errors=True)


def store_table(root: Path, commit: str, table: Path) -> Path:
    """Copy the figures of an experiment to where they can be read without DVC, and return the path."""
    path = _table_path(root, commit)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(table.read_bytes() if table.is_file() else b"")
    return path


def load_table(root: Path, commit: str) -> bytes | None:
    """Read the figures of an experiment: the stored copy, or else from DVC's cache or remote; None if they are lost."""
    path = _table_path(root, commit)
    if path.is_file():
        return path.read_bytes()
    fetched = path.with_suffix(".fetched")
    path.parent.mkdir(parents=True, exist_ok=True)
    fetched.unlink(missing_ok=True)
    if not fetch_at(commit, str(TABLE), fetched, root):
        return None
    store_table(root, commit, fetched)
    fetched.unlink()
    return path.read_bytes()


def _table_path(root: Path, commit: str) -> Path:
    return root / SWEEPS / "tables" / f"{commit}.csv"


def _named_paths(block: Any, base: Path) -> Iterator[Path]:
    """Yield the relative paths that the block of a source may name; many of them exist nowhere."""
    root = block.get("root") if isinstance(block, dict) else None
    named = _paths(root) if isinstance(root, str) and root else []
    for path in map(Path, [*named, *_texts(block.get("options") if isinstance(block, dict) else None)]):
        if path.is_absolute() or ".." in path.parts or path == Path() or len(str(path)) > _LONGEST_PATH:
            continue
        if path == Path(str(root)) and (base / path).is_file():
            if path.parent != Path():
                yield path.parent  # one link, unless git holds some of that folder
            beside = sorted(base.joinpath(path.parent).iterdir())
            yield from (path.parent / other.name for other in beside if not other.name.startswith("."))
        yield path


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts of options, at any depth."""
    if isinstance(value, str) and value and "\0" not in value:
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _paths(root: str) -> list[str]:
    """Return the paths that a root means: itself, or those of a pattern such as `train-{000..012}.tar`."""
    if "{" not in root or is_address(root):
        return [root]
    try:
        return [root, *expand_braces(root)]
    except ValueError:  # ingest explains it
        return [root]


def end_processes_in(folder: Path) -> None:
    """End the processes that a killed sweep left running in a folder.

    Raises:
        SweepError: a process does not end.
    """
    for process in _processes_in(folder):
        with suppress(psutil.Error):
            process.terminate()
    deadline = time.monotonic() + _END_SECONDS
    while (remaining := _processes_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in remaining:
        with suppress(psutil.Error):
            process.kill()
    _, alive = psutil.wait_procs(remaining, timeout=5)
    if alive:
        raise SweepError(
            "a process of an earlier attempt does not end",
            where=folder,
            found=", ".join(f"process {process.pid}" for process in alive),
            fix="End it, and start the sweep again.",
        )


def _processes_in(folder: Path) -> list[psutil.Process]:
    processes: list[psutil.Process] = []
    if not folder.exists():
        return processes
    resolved = folder.resolve()
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(resolved) and _STAGE_COMMANDS.search(" ".join(process.cmdline())):
                processes.append(process)
        except (psutil.Error, OSError):
            continue
    return processes
