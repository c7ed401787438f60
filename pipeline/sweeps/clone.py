"""The folder in which a point of a sweep runs: a clone of the commit that shares DVC's cache with the project.

`.reprise/sweeps/<point>/tree` is made anew for each attempt, `work` beside it holds the checkpoints of an unfinished
one. What finished stages wrote comes back from the run-cache, so nothing that a kill leaves in a tree matters. The
project's own files are read, and only two things are written: objects of the cache, and the experiment's git ref.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.compare.revisions import METRICS, TABLE
from pipeline.graph import dvc
from pipeline.graph.graph import load_graph
from pipeline.graph.lock_file import LOCK_FILE
from pipeline.graph.prune import prune
from pipeline.graph.workspace import STATE
from pipeline.processes.processes import CommandFailed, capture
from pipeline.sweeps.plans import Point, write_changes
from reprise.config.errors import SweepError
from reprise.config.params import read_yaml
from reprise.storage.atomic import atomic_file

SWEEPS = STATE / "sweeps"
SOURCE_LOCK = "source.lock.json"
CARRIED = (LOCK_FILE, METRICS, SOURCE_LOCK)  # written by Reprise, not by people: taken along as they are
_SHARED = (STATE / "decoded",)  # keyed by content and built under a lock
_GIT = ("git", "-c", "core.hooksPath=/dev/null")
_PATIENCE = 60.0  # seconds for the processes of a killed sweep; torchrun alone takes 30
_OURS = re.compile(r"dvc|stages|parent_death\.py")  # in their command lines; a person's shell in there is left alone
_fetching = threading.Lock()


@dataclass(frozen=True)
class Base:
    """What all points start from: a project folder, its commit, its place below the top of the git repository."""

    root: Path
    commit: str
    prefix: str
    source: str  # digest of source.lock.json where it is not the commit's, else ""

    def ref(self, name: str) -> str:
        """Where git keeps an experiment: DVC's own layout, so that `dvc exp` knows it."""
        return f"refs/exps/{self.commit[:2]}/{self.commit[2:]}/{name}"

    def experiment(self, name: str) -> str | None:
        """The commit of an experiment on this base, or None."""
        with suppress(CommandFailed):
            return capture(["git", "rev-parse", "--verify", "--quiet", self.ref(name)], cwd=self.root).strip() or None
        return None


def base_of_folder(root: Path) -> Base:
    """The commit that a sweep starts from.

    Raises:
        SweepError: there is none, or files differ from it that decide what is measured.
    """
    root = root.resolve()
    try:
        commit = capture(["git", "rev-parse", "--verify", "--quiet", "HEAD^{commit}"], cwd=root).strip()
        prefix = capture(["git", "rev-parse", "--show-prefix"], cwd=root).strip()
        status = capture(["git", "status", "--porcelain", "-z", "--no-renames", "--", "."], cwd=root)
    except CommandFailed as error:
        raise SweepError(
            "a sweep needs a git commit to start from",
            where=root,
            found=" ".join(error.lines) or "no commit",
            fix="Commit the project: `git add --all && git commit`.",
        ) from error
    states = {entry[3:].removeprefix(prefix): entry[:2] for entry in status.split("\0") if entry}
    unsaved = [path for path, state in states.items() if state != "??" and path not in CARRIED]
    unsaved += [path for path, state in states.items() if state == "??" and path.startswith("stages/")]
    if unsaved:
        raise SweepError(
            "a sweep measures a commit, and these files differ from it",
            where=root,
            found=", ".join(unsaved[:8]) + (f" and {len(unsaved) - 8} more" if len(unsaved) > 8 else ""),
            fix="Commit them; results that belong to no revision cannot be told apart later.",
        )
    source = root / SOURCE_LOCK
    digest = hashlib.sha256(source.read_bytes()).hexdigest() if SOURCE_LOCK in states and source.is_file() else ""
    return Base(root, commit, prefix, digest)


@dataclass(frozen=True)
class Tree:
    """The folder of one point."""

    base: Base
    point: Point
    cache: Path  # of DVC, shared by all

    @property
    def home(self) -> Path:
        """Everything of this point."""
        return self.base.root / SWEEPS / self.point.name

    @property
    def clone(self) -> Path:
        """The top of the clone."""
        return self.home / "tree"

    @property
    def project(self) -> Path:
        """The project in the clone."""
        return self.clone / self.base.prefix

    @property
    def log(self) -> Path:
        """Everything that the last attempt said."""
        return self.home / "log.txt"

    def make(self) -> None:
        """A fresh clone with the point's parameters; checkpoints of an earlier attempt are kept.

        Raises:
            SweepError: a parameter has no place in params.yaml, or processes of an earlier attempt will not end.
            CommandFailed: git cannot clone.
        """
        end_processes_in(self.clone)
        shutil.rmtree(self.clone, ignore_errors=True)
        work = self.home / "work"
        work.mkdir(parents=True, exist_ok=True)
        top = capture(["git", "rev-parse", "--show-toplevel"], cwd=self.base.root).rstrip("\n")
        capture([*_GIT, "clone", "--quiet", "--shared", "--no-checkout", "--", top, str(self.clone)])
        capture([*_GIT, "checkout", "--quiet", "--detach", self.base.commit], cwd=self.clone)
        for name in CARRIED:
            if (self.base.root / name).is_file():
                shutil.copyfile(self.base.root / name, self.project / name)
        self._configure()
        (self.project / STATE).mkdir(exist_ok=True)
        (self.project / STATE / "work").symlink_to(work.resolve(), target_is_directory=True)
        for shared in _SHARED:
            (self.base.root / shared).mkdir(parents=True, exist_ok=True)
            (self.project / shared).symlink_to((self.base.root / shared).resolve(), target_is_directory=True)
        write_changes(self.project / "params.yaml", self.point.changes)
        self._link_source()

    def _configure(self) -> None:
        """The project's cache, and DVC's notes about this folder inside it."""
        settings = {"cache.dir": str(self.cache), "core.site_cache_dir": str(self.project / ".dvc/tmp/site")}
        if kind := dvc.setting("cache.type", self.base.root):
            settings["cache.type"] = kind
        sections: dict[str, list[str]] = {}
        for key, value in settings.items():
            section, name = key.split(".")
            sections.setdefault(section, []).append(f"    {name} = {value}\n")
        with atomic_file(self.project / ".dvc/config.local", "w") as file:
            file.write("".join(f"[{section}]\n{''.join(lines)}" for section, lines in sections.items()))

    def _link_source(self) -> None:
        """A relative source.root leads to the project's images, which git does not hold."""
        source = read_yaml(self.project / "params.yaml").get("source")
        root = source.get("root") if isinstance(source, dict) else None
        if not isinstance(root, str) or not root or Path(root).is_absolute() or ".." in Path(root).parts:
            return
        here, there = self.project / root, self.base.root / root
        if there.exists() and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(there.resolve())

    def run(self, on_line: Callable[[str], None], cancelled: threading.Event) -> None:
        """Check the parameters and bring the graph up to date.

        Raises:
            CommandFailed: a check or a stage ended with an error; `lines` holds what it said.
        """
        dvc.check(self.project, on_line=on_line)
        if any(re.match(r"source\b", key) for key in self.point.changes):
            dvc.scan(self.project, on_line=on_line)
        graph = load_graph(self.project)
        prune(graph, self.project)
        dvc.repro_apart(graph, root=self.project, on_line=on_line, cancelled=cancelled)

    def save(self) -> str:
        """Make it an experiment of the project.

        Returns:
            Its commit.

        Raises:
            CommandFailed: DVC or git could not.
        """
        name, ref = self.point.name, self.base.ref(self.point.name)
        dvc.save_experiment(name, self.project)
        with _fetching:
            capture(
                [*_GIT, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(self.clone), f"+{ref}:{ref}"],
                cwd=self.base.root,
            )
        commit = self.base.experiment(name)
        if commit is None:
            raise CommandFailed(["git", "fetch"], 1, [f"the experiment {name} did not arrive"])
        keep_table(self.base.root, commit, self.project / TABLE)
        return commit

    def clear(self, *, everything: bool) -> None:
        """Remove the clone; and log and checkpoints too, if `everything`."""
        end_processes_in(self.clone)
        shutil.rmtree(self.home if everything else self.clone, ignore_errors=True)


def keep_table(root: Path, commit: str, table: Path) -> Path:
    """Keep the figures of an experiment where they are found without asking DVC."""
    kept = root / SWEEPS / "tables" / f"{commit}.csv"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(kept) as file:
        file.write(table.read_bytes() if table.is_file() else b"")
    return kept


def table_of(root: Path, commit: str) -> bytes | None:
    """The figures of an experiment: kept here, or from DVC's cache or remote."""
    kept = root / SWEEPS / "tables" / f"{commit}.csv"
    if kept.is_file():
        return kept.read_bytes()
    fetched = kept.with_suffix(".fetched")
    kept.parent.mkdir(parents=True, exist_ok=True)
    fetched.unlink(missing_ok=True)
    if not dvc.fetch_at(commit, TABLE, fetched, root):
        return None
    keep_table(root, commit, fetched)
    fetched.unlink()
    return kept.read_bytes()


def end_processes_in(folder: Path) -> None:
    """End what a killed sweep left running in a folder.

    Raises:
        SweepError: something there does not end.
    """
    left = _processes_in(folder)
    for process in left:
        _quietly(process.terminate)
    deadline = time.monotonic() + _PATIENCE
    while (left := _processes_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        _quietly(process.kill)
    _, stubborn = psutil.wait_procs(left, timeout=5)
    if stubborn:
        raise SweepError(
            "a process of an earlier attempt does not end",
            where=folder,
            found=", ".join(str(process.pid) for process in stubborn),
            fix="End it, and start the sweep again.",
        )


def _processes_in(folder: Path) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    if not folder.exists():
        return found
    inside = folder.resolve()
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(inside) and _OURS.search(" ".join(process.cmdline())):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _quietly(act: Callable[[], Any]) -> None:
    with suppress(psutil.Error):
        act()
