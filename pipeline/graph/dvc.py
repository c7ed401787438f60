"""The only caller of DVC. Each call is a process of its own, with its arguments as a list, never a shell's text."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from pipeline.graph.code import changed_code
from pipeline.graph.graph import Graph, load_graph
from pipeline.graph.lock_file import LOCK_FILE, fit_lock, read_lock
from pipeline.graph.prune import Pruned, prune
from pipeline.graph.why import Explanation, explain
from pipeline.graph.workspace import Say, dvc_at_rest, exclusive, mend
from pipeline.processes.processes import CommandFailed, capture, run
from reprise.artifacts.layout import CHECKED
from reprise.config.errors import GraphError, WorkspaceBusyError
from reprise.config.params import read_yaml
from reprise.storage.atomic import atomic_file
from reprise.storage.fingerprint import digest_of_project

_DVC = (sys.executable, "-m", "dvc")
# What DVC says after each stage to a person at a terminal; in a log of thirty stages it hides what they say.
_ADVICE = re.compile(
    r"^\s*$|^To (track the changes with git|enable auto staging), run:$|^\tgit add |^\tdvc config core\.autostage"
    r"|^Use `dvc push` to send"
)


class Outcome(Enum):
    """What DVC did with a stage."""

    RAN = "ran"
    RESTORED = "restored from the cache"
    CACHED = "up to date"


def repro(
    targets: Sequence[str] = (), *, root: Path = Path(), wait: bool = False, force: bool = False, say: Say = print
) -> None:
    """Run what is not up to date: the whole graph, or the targets and what they need.

    Before DVC starts, the source is looked at, all parameters are checked at once, what a kill left is put
    right, and what removed rows left is pruned.

    Args:
        targets: see `Graph.find`.
        wait: wait for another run in this folder instead of giving up.
        force: run the targets although nothing changed.

    Raises:
        CommandFailed: DVC, a stage or a check ended with an error and has said why.
        WorkspaceBusyError: another run holds the folder and `wait` is false.
    """
    with exclusive(root, wait=wait, say=say):
        graph = prepare(root, say)
        names = graph.find(targets)
        command = [*_DVC, "--wait-for-lock", "repro", *(["--force"] if force else []), *names]
        try:
            code = run(command, cwd=root)
        finally:
            tidy_lock(graph, root)
        if code:
            raise CommandFailed(command, code)


def tidy_lock(graph: Graph, root: Path) -> None:
    """Put the entries of dvc.lock in graph order; one that a kill left unreadable waits for the next run."""
    with suppress(GraphError), dvc_at_rest(root):
        fit_lock(graph, root)


def prepare(root: Path, say: Say, on_line: Callable[[str], None] | None = None) -> Graph:
    """What precedes every run: check, scan, mend, prune. Call it while holding `exclusive`.

    Returns:
        The graph as dvc.yaml and params.yaml state it now.
    """
    check(root, on_line=on_line)
    scan(root, on_line=on_line)
    mend(root, say)
    graph = load_graph(root)
    for line in prune(graph, root).lines():
        say(line)
    return graph


def repro_stage(
    name: str,
    *,
    root: Path = Path(),
    on_line: Callable[[str], None],
    cancelled: threading.Event | None = None,
    pull: bool = False,
) -> Outcome:
    """Run one stage, without what it needs, and say what DVC did with it. Call it while holding `exclusive`.

    Args:
        pull: look into the remote for outputs that the run-cache knows of before anything is computed.

    Raises:
        CommandFailed: with the last lines that the stage wrote.
    """
    command = ["repro", *(["--pull"] if pull else []), "--single-item", name]
    lines: list[str] = []
    status = _told(command, lines, root, on_line, cancelled)
    if status:
        raise CommandFailed([*_DVC, *command], status, last_words(lines))
    return outcome(name, lines)


def repro_apart(
    graph: Graph, *, root: Path, on_line: Callable[[str], None], cancelled: threading.Event | None = None
) -> None:
    """Run what is not up to date in a folder that is nobody else's: no checks, no lock, no repairs.

    Raises:
        CommandFailed: with the last lines that DVC and the stages wrote.
    """
    lines: list[str] = []
    try:
        status = _told(["repro"], lines, root, on_line, cancelled)
    finally:
        tidy_lock(graph, root)
    if status:
        raise CommandFailed([*_DVC, "repro"], status, last_words(lines, 200))


def last_words(lines: Sequence[str], count: int = 40) -> list[str]:
    """The last lines of a command that failed, and before them the sentences of its errors: what it wrote to its other
    stream can come after them."""
    return [*[line for line in lines[:-count] if line.startswith("error: ")][-5:], *lines[-count:]]


def outcome(name: str, lines: Sequence[str]) -> Outcome:
    """Read DVC's own words about a stage from what it wrote."""
    if any(line.startswith(f"Stage '{name}' is cached") for line in lines):
        return Outcome.RESTORED
    if any(line.startswith(f"Running stage '{name}'") for line in lines):
        return Outcome.RAN
    return Outcome.CACHED


def check(root: Path = Path(), *, on_line: Callable[[str], None] | None = None, again: bool = False) -> None:
    """Check all parameters in a process of its own; skipped when neither they nor the code changed.

    The process remembers what it checked, and keeps the fingerprints of the present code for `why`.

    Raises:
        CommandFailed: something is wrong; the process has said what.
    """
    if again or _remembered(root / CHECKED) != digest_of_project(root):
        _stage_module("stages.check", ["--no-output"], root, on_line)


def scan(root: Path = Path(), *, on_line: Callable[[str], None] | None = None) -> None:
    """Look at the source and write source.lock.json anew if it changed.

    Raises:
        CommandFailed: the source cannot be read; the process has said why.
    """
    _stage_module("stages.ingest.scan", [], root, on_line)


def status(root: Path = Path(), graph: Graph | None = None) -> dict[str, Any]:
    """Ask DVC what changed, by stage, and add the stages whose code changed.

    DVC itself learns of changed code only when the stage that writes the fingerprints has run again.

    Args:
        graph: the present graph; without it, only what DVC says. `check` must have run.

    Raises:
        GraphError: DVC cannot tell.
    """
    try:
        changed = json.loads(capture([*_DVC, "--wait-for-lock", "status", "--json"], cwd=root))
    except (CommandFailed, ValueError) as error:
        found = " ".join(error.lines) if isinstance(error, CommandFailed) else str(error)
        raise GraphError(
            "DVC cannot tell what changed",
            where=root / "dvc.yaml",
            found=found,
            fix="Run `reprise repro`, or `dvc doctor`.",
        ) from error
    for stage, files in (changed_code(graph, root) if graph else {}).items():
        listed = changed.setdefault(stage, [])
        if not any(isinstance(item, dict) and files.keys() & item.get("changed deps", {}).keys() for item in listed):
            listed.append({"changed deps": dict.fromkeys(files, "modified")})
    return changed


def why(targets: Sequence[str] = (), *, root: Path = Path()) -> Explanation:
    """What would run and which dependency changed, for the whole graph or for the targets and what they need.

    Rows that moved are compared under their present names; dvc.lock is as it was afterwards.
    """
    check(root)
    scan(root)
    graph = load_graph(root)
    names = graph.find(targets)
    with fitted_lock(graph, root):
        changed = status(root, graph)
        code = changed_code(graph, root)
        return explain(graph, changed, read_lock(root), read_yaml(root / "params.yaml"), names, code)


@contextmanager
def fitted_lock(graph: Graph, root: Path) -> Iterator[None]:
    """dvc.lock with the present names of its entries, for a while; as it is while another run holds the folder."""
    path = root / LOCK_FILE
    try:
        with exclusive(root, wait=False, say=lambda line: None):
            before = path.read_bytes() if path.exists() else b""
            fit_lock(graph, root)
            try:
                yield
            finally:
                if before and path.read_bytes() != before:
                    with atomic_file(path) as file:
                        file.write(before)
    except WorkspaceBusyError:
        yield


def prune_workspace(root: Path = Path(), *, wait: bool = False, say: Say = print) -> Pruned:
    """Remove what rows that are no longer in params.yaml left in data/ and dvc.lock.

    Raises:
        WorkspaceBusyError: a run holds the folder and `wait` is false.
    """
    with exclusive(root, wait=wait, say=say):
        check(root)
        mend(root, say)
        return prune(load_graph(root), root)


def fetch_at(revision: str, path: str, target: Path, root: Path = Path()) -> bool:
    """Copy an output file or folder as it was at a git revision to `target`, from DVC's cache or remote.

    Returns:
        Whether it was there to be had.
    """
    try:
        capture([*_DVC, "get", "--quiet", "--rev", revision, "--out", str(target.resolve()), str(root.resolve()), path])
    except CommandFailed:
        return False
    return target.exists()


def setting(name: str, root: Path = Path()) -> str | None:
    """The value of one of DVC's settings ("core.remote"), or None where it is not set."""
    try:
        return capture([*_DVC, "config", name], cwd=root).strip() or None
    except CommandFailed:  # DVC's way to say that it is not set
        return None


def cache_folder(root: Path = Path()) -> Path:
    """DVC's cache of a project."""
    return Path(capture([*_DVC, "cache", "dir"], cwd=root).strip()).resolve()


def transfer(
    verb: Literal["fetch", "pull", "push"],
    *,
    root: Path = Path(),
    on_line: Callable[[str], None],
    cancelled: threading.Event | None = None,
) -> int:
    """Results and run-cache to or from the default remote; what it says is to be judged by `pipeline.graph.remote`.

    Returns:
        DVC's exit status, which is 0 even where the run-cache could not be sent.
    """
    extra = ["--allow-missing"] if verb == "pull" else []
    return _told([verb, "--run-cache", *extra], [], root, on_line, cancelled)


def save_experiment(name: str, root: Path) -> None:
    """Make what differs from the commit, outputs included, an experiment.

    Raises:
        CommandFailed: DVC could not.
    """
    capture([*_DVC, "--wait-for-lock", "exp", "save", "--force", "--name", name], cwd=root)


def _told(
    arguments: Sequence[str],
    lines: list[str],
    root: Path,
    on_line: Callable[[str], None],
    cancelled: threading.Event | None,
) -> int:
    """Run DVC, waiting for its lock, and keep what it says in `lines`; its advice goes no further."""

    def keep(line: str) -> None:
        lines.append(line)
        if not _ADVICE.match(line):
            on_line(line)

    return run([*_DVC, "--wait-for-lock", *arguments], cwd=root, on_line=keep, cancelled=cancelled)


def _stage_module(module: str, arguments: list[str], root: Path, on_line: Callable[[str], None] | None) -> None:
    command = [sys.executable, "-m", module, *arguments]
    lines: list[str] = []

    def keep(line: str) -> None:
        lines.append(line)
        if on_line:
            on_line(line)

    code = run(command, cwd=root, on_line=keep if on_line else None)
    if code:
        raise CommandFailed(command, code, last_words(lines))


def _remembered(path: Path) -> str | None:
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("digest")
    except (OSError, ValueError, AttributeError):
        return None
