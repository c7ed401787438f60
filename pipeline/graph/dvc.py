"""Call DVC. This is the only module that does; each call is a process whose arguments never pass through a shell."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

from pipeline.graph.definition import Graph, load_graph
from pipeline.graph.dvc_output import (
    ADVICE,
    ADVICE_TO_UNLOCK,
    Outcome,
    explain_failure,
    known_failure,
    last_lines,
    parse_outcome,
    with_sentence,
)
from pipeline.graph.ingested import check_images
from pipeline.graph.jobs.loaded_dvc import LoadedDvc
from pipeline.graph.lock_file import LOCK_FILE, fit_lock, read_lock
from pipeline.graph.pending.code_changes import changed_code
from pipeline.graph.pending.why import Explanation, explain
from pipeline.graph.previous_outputs import previous_outputs_kept
from pipeline.graph.prune import Pruned, prune
from pipeline.graph.records import truthful_records
from pipeline.graph.running.processes import what_runs
from pipeline.graph.stage_modules import check, run_module, scan
from pipeline.graph.workspace import Say, exclusive, hold_dvc_lock, holds, repair_workspace
from pipeline.processes.commands import OWN_MODULE, CommandFailed, capture, run
from pipeline.processes.redaction import run_shown
from reprise.config.errors import GraphError, WorkspaceBusyError
from reprise.config.params import read_yaml
from reprise.storage.atomic import atomic_file

_DVC = (sys.executable, "-P", "-m", "dvc")  # for what reads no object
_CHECKED_DVC = (*OWN_MODULE, "pipeline.graph.in_dvc")  # DVC, with each object checked before its use
_TRIAL_GRACE = 5.0  # seconds; an attempt has nothing to save
_PAUSES = (0.1, 0.5)  # seconds before another attempt to read what DVC is just writing


def repro_in_order(
    graph: Graph, names: Sequence[str], *, root: Path, force: bool = False, fail_fast: bool = False, say: Say = print
) -> None:
    """Run the stages that are not up to date in one DVC, one after the other. The caller must hold `exclusive`.

    Args:
        graph: the graph.
        names: DVC's names of the stages to run with all that they depend on; none means the whole graph.
        root: the project folder.
        force: whether to run the stages even if nothing changed.
        fail_fast: whether a failure ends the run; otherwise all stages follow that do not depend on what failed.
        say: prints a line for people.

    Raises:
        CommandFailed: DVC or a stage ended with an error, which it has explained.
    """
    options = [*(["--force"] if force else []), *([] if fail_fast else ["--keep-going"])]
    command = [*_CHECKED_DVC, "--wait-for-lock", "repro", *options, *names]
    lines: list[str] = []
    with truthful_records(root, cache_folder), previous_outputs_kept(root, say):
        try:
            code = run_shown(command, root, skip=ADVICE_TO_UNLOCK.match, keep=lines)
        finally:
            sort_lock(graph, root)
    if code:
        raise known_failure(lines, root) or CommandFailed(command, code, shown=lines)


def sort_lock(graph: Graph, root: Path) -> None:
    """Sort the entries of dvc.lock in graph order; a file that a kill left unreadable is left to the next run."""
    with suppress(GraphError), hold_dvc_lock(root):
        fit_lock(graph, root)


def prepare(root: Path, say: Say, on_line: Callable[[str], None] | None = None) -> Graph:
    """Prepare a run: check the parameters, scan the source, repair what a kill left, remove results of deleted rows.

    Parameters that do not fit the images stop it. What does not fit this machine is a warning.

    The caller must hold `exclusive`.

    Args:
        root: the project folder.
        say: prints a line for people.
        on_line: called with each line of output of the check and the scan.

    Returns:
        The graph as dvc.yaml and params.yaml define it now.

    Raises:
        CommandFailed: the check or the scan ended with an error, which it has explained.
    """
    check(root, on_line=on_line, machine=True)
    scan(root, on_line=on_line)
    repair_workspace(root, say)
    check_images(root, lambda: run_module("stages.check", ["--no-output", "--data"], root, on_line))
    graph = load_graph(root)
    for line in prune(graph, root).lines():
        say(line)
    return graph


def repro_stage(
    name: str,
    loaded: LoadedDvc,
    *,
    root: Path = Path(),
    on_each_line: tuple[Callable[[str], None], Callable[[str], None]],
    cancelled: threading.Event,
    variables: Mapping[str, str] | None = None,
    pull: bool = False,
    force: bool = False,
) -> Outcome:
    """Run one stage, without those that it depends on. The caller must hold `exclusive`; any thread may call this.

    Args:
        name: DVC's name of the stage.
        loaded: what runs DVC.
        root: the project folder.
        on_each_line: called with each line of output, and of error output.
        cancelled: ends the stage when another thread sets it.
        variables: environment variables for the stage.
        pull: whether to look in the remote for outputs that the run cache knows, before anything is computed.
        force: whether to run the stage even if nothing changed.

    Returns:
        What DVC did with the stage.

    Raises:
        CommandFailed: the stage failed; `lines` holds its last output.
        InputsChanged: DVC recorded other inputs than the stage used; the record has been removed.
    """
    options = [*(["--pull"] if pull else []), *(["--force"] if force else [])]
    command = ["--wait-for-lock", "repro", *options, "--single-item", name]
    lines: list[str] = []
    say, say_aside = (_keeping(lines, on_line) for on_line in on_each_line)
    with truthful_records(root, cache_folder, name), previous_outputs_kept(root, on_each_line[0]):
        status = loaded.run(command, on_each_line=(say, say_aside), cancelled=cancelled, variables=variables)
    if status:
        error = known_failure(lines, root)
        for line in f"error: {error}".splitlines() if error else ():
            say_aside(line)
        raise CommandFailed([*_CHECKED_DVC, *command], status, last_lines(lines))
    return parse_outcome(name, lines)


def repro_all(
    graph: Graph, *, root: Path, on_line: Callable[[str], None], cancelled: threading.Event | None = None
) -> None:
    """Run all stages that are not up to date, without checks, lock or repairs: for a folder that no other run uses.

    Args:
        graph: the graph.
        root: the project folder.
        on_line: called with each line of output.
        cancelled: ends the run when another thread sets it.

    Raises:
        CommandFailed: DVC or a stage failed; `lines` holds the last output.
    """
    lines: list[str] = []
    with truthful_records(root, cache_folder), previous_outputs_kept(root, on_line):
        try:
            status = _run_dvc(["repro"], lines, root, on_line, cancelled)
        finally:
            sort_lock(graph, root)
    if status:
        raise CommandFailed([*_CHECKED_DVC, "repro"], status, with_sentence(last_lines(lines, 200), root))


def status(root: Path = Path(), graph: Graph | None = None) -> dict[str, Any]:
    """Return the changes of each stage as DVC reports them, and add the stages whose code changed.

    DVC itself notices changed code only after the stage that writes the fingerprints has run again. No lock is waited
    for: while a run works in the folder, the answer tells of one moment in it.

    Args:
        root: the project folder.
        graph: the graph, for which `check` must have run; without it, only DVC's report is returned.

    Raises:
        GraphError: DVC cannot report the changes.
    """
    try:
        changed = json.loads(_between_writes(root, lambda: capture([*_CHECKED_DVC, "status", "--json"], cwd=root)))
    except (CommandFailed, ValueError) as error:
        lines = error.lines if isinstance(error, CommandFailed) else [str(error)]
        raise explain_failure(lines, root, "DVC cannot report what changed") from error
    for stage, files in (changed_code(graph, root) if graph else {}).items():
        listed = changed.setdefault(stage, [])
        if not any(isinstance(item, dict) and files.keys() & item.get("changed deps", {}).keys() for item in listed):
            listed.append({"changed deps": dict.fromkeys(files, "modified")})
    return changed


def why(targets: Sequence[str] = (), *, root: Path = Path()) -> Explanation:
    """Explain what would run and why, for the whole graph or for the targets and what they depend on.

    Rows that moved are compared under their current names; dvc.lock is restored afterwards.

    Args:
        targets: see `Graph.find`; none means the whole graph.
        root: the project folder.

    Raises:
        CommandFailed: the check or the scan ended with an error, which it has explained.
        GraphError: a target selects no stage, or DVC cannot report the changes.
    """
    check(root)
    if not what_runs(root):  # a run has scanned the source, and reads the file that a scan would write
        scan(root)
    graph = load_graph(root)
    names = graph.find(targets)
    with current_lock_names(graph, root):
        changed = status(root, graph)
        code = changed_code(graph, root)
        lock = _between_writes(root, lambda: read_lock(root))
        return explain(graph, changed, lock, read_yaml(root / "params.yaml"), names, code)


def _between_writes(root: Path, read: Callable[[], Any]) -> Any:
    """Call `read`, and again where it failed while something runs: DVC writes dvc.lock piece by piece."""
    for pause in _PAUSES:
        try:
            return read()
        except (CommandFailed, GraphError):
            if not what_runs(root):
                raise
            time.sleep(pause)
    return read()


@contextmanager
def current_lock_names(graph: Graph, root: Path) -> Iterator[None]:
    """Give the entries of dvc.lock their current names inside the `with` block.

    While another process works in the folder, dvc.lock is left as it is.
    """
    if what_runs(root):  # a DVC that a person started does not hold the folder
        yield
        return
    path = root / LOCK_FILE
    try:
        alone = exclusive(root, wait=False, say=lambda line: None, announce=False)
        with nullcontext() if holds(root) else alone:
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
    """Remove the results of rows that are no longer in params.yaml from data/ and dvc.lock.

    Args:
        root: the project folder.
        wait: whether to wait for another run in this folder instead of giving up.
        say: prints a line for people.

    Raises:
        WorkspaceBusyError: another run holds the folder and `wait` is false.
    """
    with exclusive(root, wait=wait, say=say):
        check(root)
        repair_workspace(root, say)
        return prune(load_graph(root), root)


def copy_output(outs: Sequence[tuple[str, str]], path: str, target: Path, root: Path = Path()) -> None:
    """Copy outputs from DVC's cache or remote, and check every file of the copy.

    Args:
        outs: path and object of each output that overlaps `path`.
        path: the file or folder to copy.
        target: where to put the copy; it must not exist.
        root: the project folder.

    Raises:
        CommandFailed: something is missing, or was refused; `lines` holds the reasons (pipeline.graph.remotes.refused).
    """
    capture([*_CHECKED_DVC, "get-output", json.dumps(outs), path, str(target.resolve())], cwd=root)


def setting(name: str, root: Path = Path()) -> str | None:
    """Return the value of a setting of DVC ("core.remote"), or None if it is not set.

    Raises:
        GraphError: DVC cannot read its settings.
    """
    try:
        return _ask(["config", name], root) or None
    except CommandFailed as error:
        if any("doesn't exist" in line for line in error.lines):
            return None
        raise


def cache_folder(root: Path = Path()) -> Path:
    """Return the folder of DVC's cache.

    Raises:
        GraphError: DVC cannot read its settings.
    """
    return Path(_ask(["cache", "dir"], root)).resolve()


def _ask(arguments: Sequence[str], root: Path) -> str:
    try:
        return capture([*_DVC, *arguments], cwd=root).strip()
    except CommandFailed as error:
        raise known_failure(error.lines, root) or error from error


def transfer(
    verb: Literal["fetch", "checkout", "push"],
    *,
    root: Path = Path(),
    on_line: Callable[[str], None],
    cancelled: threading.Event | None = None,
) -> int:
    """Transfer results and the run cache to or from the default remote; `remotes/remote.py` interprets the output.

    Args:
        verb: DVC's command; "checkout" puts what was fetched into the folder.
        root: the project folder.
        on_line: called with each line of output.
        cancelled: ends the transfer when another thread sets it.

    Returns:
        DVC's exit status, which is 0 even if the run cache could not be sent.
    """
    return _run_dvc([verb, "--allow-missing" if verb == "checkout" else "--run-cache"], [], root, on_line, cancelled)


def try_remote(root: Path, on_line: Callable[[str], None], cancelled: threading.Event) -> int:
    """Write a small file into the default remote, read it back and remove it.

    Args:
        root: the project folder.
        on_line: called with each line of output.
        cancelled: ends the attempt when another thread sets it.

    Returns:
        The status of `pipeline.graph.in_dvc.transfers.trial`.
    """
    return run([*_CHECKED_DVC, "try-remote"], cwd=root, on_line=on_line, cancelled=cancelled, grace=_TRIAL_GRACE)


def save_experiment(name: str, root: Path) -> None:
    """Save everything that differs from the commit, outputs included, as an experiment.

    Raises:
        CommandFailed: DVC failed.
    """
    capture([*_CHECKED_DVC, "--wait-for-lock", "exp", "save", "--force", "--name", name], cwd=root)


def _run_dvc(
    arguments: Sequence[str],
    lines: list[str],
    root: Path,
    on_line: Callable[[str], None],
    cancelled: threading.Event | None,
) -> int:
    """Run DVC, wait for its lock, and append its output to `lines`; `on_line` does not get its advice."""
    command = [*_CHECKED_DVC, "--wait-for-lock", *arguments]
    return run(command, cwd=root, on_line=_keeping(lines, on_line), cancelled=cancelled)


def _keeping(lines: list[str], on_line: Callable[[str], None]) -> Callable[[str], None]:
    """Append each line to `lines`, and pass it on unless it is advice of DVC's."""

    def keep(line: str) -> None:
        lines.append(line)
        if not ADVICE.match(line):
            on_line(line)

    return keep
