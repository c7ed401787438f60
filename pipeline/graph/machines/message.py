"""What a leader asks a worker to compute, and what both must have in common for the result to be the leader's own.

A message is plain data (dictionaries, lists, texts and numbers). It carries the files that people and Reprise edit
between two commits (`TRAVELLING`), the entries of dvc.lock of the stages whose outputs are read, and the marks of
everything else: code, dvc.yaml, other files that the stage reads, Python and packages. Those must be equal in the
worker's clone, because no message may bring code.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.graph.definition import Graph
from reprise.config.dvc_file import GRAPH_FILE, Stage, overlaps
from reprise.config.errors import GitError, GraphError, listed
from reprise.runtime.entry import threads
from reprise.storage.code.places import code_folders
from reprise.storage.provenance import libraries, versions

FORM = 1  # of messages and answers; whoever changes them raises it
TRAVELLING = ("params.yaml", "source.lock.json", "shifts.lock.json", "targets.csv")
_LARGEST_FILE = 64 << 20  # bytes of a file that travels
_SHOWN = 12


def marks_of(root: Path) -> dict[str, Any]:
    """Return what must be the same on leader and worker.

    Args:
        root: the project folder.

    Returns:
        `packages` with the versions of Python and of what results depend on, less the label of a build ("+cu128");
        `files` with the SHA-256 of dvc.yaml and of every file of code; `processor`, the kind of it.
    """
    found = {name: version.partition("+")[0] for name, version in (libraries() | versions()).items()}
    files = {GRAPH_FILE: digest_of_file(root / GRAPH_FILE)}
    for package, folder in {**code_folders(root), "plugins": root / "plugins"}.items():
        place = folder.resolve()
        for file in sorted(place.rglob("*")):
            name = Path(package, file.relative_to(place)).as_posix()
            if file.suffix not in (".pyc", ".md") and not name.startswith("reprise/installed/") and file.is_file():
                files[name] = digest_of_file(file)
    return {"packages": found, "files": files, "processor": f"{platform.system()} {platform.machine()}"}


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, or "missing"."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "missing"


def revision_of(root: Path) -> str:
    """Return the commit that is checked out, or "no commit"."""
    from pipeline.processes.git import git

    try:
        return git("rev-parse", "--verify", "--quiet", "HEAD", cwd=root).strip() or "no commit"
    except GitError:
        return "no commit"


def message_for(
    stage: Stage, graph: Graph, lock: Mapping[str, Any], common: Mapping[str, Any], root: Path, **options: Any
) -> dict[str, Any]:
    """Return the message that asks for a stage.

    Args:
        stage: the stage.
        graph: the graph.
        lock: entries of dvc.lock, in which the stages that it reads have theirs.
        common: what `common_part` returned for this run.
        root: the project folder.
        options: what else the worker is told: `force`, `share_seconds`, `demand`, `recorded` (the entry
            of dvc.lock of a forced stage).

    Raises:
        GraphError: a file that must travel is too large, or cannot be read.
    """
    outs = [out for each in graph.stages for out in each.outs]
    own = [dep for dep in stage.deps if dep not in TRAVELLING and not any(overlaps(dep, out) for out in outs)]
    files = {}
    for name in TRAVELLING:
        path = root / name
        if path.is_file():
            if path.stat().st_size > _LARGEST_FILE:
                raise GraphError(
                    "this file is too large to travel to the machines that compute",
                    where=path,
                    found=f"{path.stat().st_size} bytes",
                    fix=f"Make it smaller than {_LARGEST_FILE >> 20} MiB, or run without --workers.",
                )
            files[name] = path.read_bytes()
    return {
        **common,
        "stage": stage.name,
        "travelling": files,
        "beside": {dep: digest_of_file(root / dep) for dep in own},
        "entries": {name: lock[name] for name in sorted(graph.upstream(stage.name)) if name in lock},
        "options": options,
    }


def common_part(root: Path) -> dict[str, Any]:
    """Return the part that the messages of one run share."""
    return {"form": FORM, "revision": revision_of(root), "threads": threads(), "marks": marks_of(root)}


def name_of(message: Mapping[str, Any]) -> str:
    """Name the work of a message by its content, so that two leaders who ask for the same get one computation."""
    shown = {**message, "travelling": {k: hashlib.sha256(v).hexdigest() for k, v in message["travelling"].items()}}
    digest = hashlib.sha256(json.dumps(shown, sort_keys=True, default=str).encode()).hexdigest()
    return f"reprise {message['stage']} {digest[:32]}"


def inputs_of(message: Mapping[str, Any]) -> str:
    """Name what the result of a message depends on, whoever asks and however; it is the address of checkpoints."""
    entries = {name: entry.get("outs") for name, entry in message["entries"].items()}
    params = hashlib.sha256(message["travelling"].get("params.yaml", b"")).hexdigest()
    whole = [message["stage"], entries, params, message["marks"], message["beside"], message["threads"]]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


def differences(message: Mapping[str, Any], root: Path) -> list[str]:
    """Say in which way this clone differs from the leader's, a line each; none means that it may compute.

    Args:
        message: the message; of another version of Reprise, it may have another form.
        root: the folder of the clone.
    """
    if message.get("form") != FORM:
        return [f"messages of form {message.get('form')}, and form {FORM} here: another version of Reprise"]
    theirs, ours = message["marks"], marks_of(root)
    lines = _changed(theirs["packages"], ours["packages"])
    if theirs["processor"] != ours["processor"]:
        lines.append(f"processor: {theirs['processor']} there, {ours['processor']} here")
    files = theirs["files"] | message["beside"]
    here = ours["files"] | {name: digest_of_file(root / name) for name in message["beside"]}
    changed = [name for name in sorted(files.keys() | here.keys()) if files.get(name) != here.get(name)]
    if changed:
        revision, own = message["revision"][:12], revision_of(root)[:12]
        lines.append(f"revision: {revision} there, {own} here" if revision != own else f"both have {own}, with edits")
        lines += [f"file: {name} {_how(files.get(name), here.get(name))}" for name in changed[:_SHOWN]]
        lines += [f"and {len(changed) - _SHOWN} more files"] if len(changed) > _SHOWN else []
    return lines


def _changed(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    names = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
    return [f"{name}: {theirs.get(name, 'missing')} there, {ours.get(name, 'missing')} here" for name in names]


def _how(there: str | None, here: str | None) -> str:
    gone = (None, "missing")
    return "is missing here" if here in gone else "is missing there" if there in gone else "differs"


def refusal(lines: list[str], where: object) -> GraphError:
    """Return the error of a clone that may not compute for a leader.

    Args:
        lines: what `differences` returned.
        where: the clone.
    """
    return GraphError(
        "this machine may not compute for the leader, because its clone or environment differs",
        where=where,
        found=listed(lines),
        fix="Check out the leader's revision there (`git fetch`, then `git reset --hard '@{upstream}'`: a worker "
        "changes files of its clone), install requirements.lock, and start `reprise worker` again.",
    )
