"""Read outputs of any git revision from DVC's cache or remote."""

from __future__ import annotations

import os
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.graph import dvc
from pipeline.graph.lock_file import LOCK_FILE, outputs_of, parse_lock
from pipeline.graph.remotes.refused import refusals, refused_objects
from pipeline.processes.commands import CommandFailed
from pipeline.processes.git import git
from reprise.config.dvc_file import GRAPH_FILE, overlaps
from reprise.config.errors import GitError, GraphError


def fetch_at(revision: str, path: str, target: Path, root: Path = Path()) -> bool:
    """Copy an output file or folder of a git revision, and check every file of it against that revision's dvc.lock.

    Args:
        revision: git revision.
        path: path of an output in the project, of a file in one, or of a folder with several.
        target: where to put the copy; it must not exist.
        root: the project folder.

    Returns:
        Whether the cache or the remote held the output.

    Raises:
        ObjectError: the cache or the remote holds other bytes than that dvc.lock says.
    """
    try:
        outs = outputs_at(revision, root)
        dvc.copy_output([(out, md5) for out, md5 in outs.items() if overlaps(out, path)], path, target, root)
    except (GraphError, GitError):
        return False
    except CommandFailed as error:
        if refused := refusals(error.lines):
            raise refused_objects(refused, f"{path} of {revision}") from error
        return False
    return True


def copy_at(revision: str, what: str, target: Path, root: Path = Path()) -> None:
    """Copy a named artifact, or a path, of a git revision.

    Args:
        revision: git revision.
        what: a name under `artifacts:` in dvc.yaml of that revision, or a path as in `fetch_at`.
        target: where to put the copy; it must not exist.
        root: the project folder.

    Raises:
        GraphError: the revision, the output or its objects do not exist, or the target does.
        ObjectError: the cache or the remote holds other bytes than dvc.lock says.
    """
    if os.path.lexists(target):
        raise GraphError(
            "the copy needs a place of its own", where=target, found="something there", fix="Name another --out."
        )
    try:
        outs = outputs_at(revision, root)
        path = _artifacts_at(revision, root).get(what, what.strip("/"))
    except GitError as error:
        raise GraphError(
            "git cannot read this revision",
            where=revision,
            found=error.found,
            fix="Name a revision that holds dvc.lock and dvc.yaml; `git log --oneline` lists revisions, and "
            "`git add --all && git commit` makes one here.",
        ) from error
    if not any(overlaps(out, path) for out in outs):
        raise GraphError(
            "the revision has no such output",
            where=f"{revision}:{LOCK_FILE}",
            found=f"no '{what}'",
            fix="Name a path in data/, such as data/runs/simclr/0, or a name under `artifacts:` in dvc.yaml.",
        )
    if not fetch_at(revision, path, target, root):
        raise GraphError(
            "neither DVC's cache nor its default remote holds this output",
            where=f"{path} of {revision}",
            found="missing objects",
            fix="Run `reprise push` in a folder that has it, or check out the revision and run `reprise repro`.",
        )


def _artifacts_at(revision: str, root: Path) -> dict[str, str]:
    """Return the path of each artifact that dvc.yaml of a revision names."""
    try:
        document = YAML(typ="safe").load(git("show", "--end-of-options", f"{revision}:./{GRAPH_FILE}", cwd=root))
        return {str(name): str(artifact["path"]) for name, artifact in (document.get("artifacts") or {}).items()}
    except (YAMLError, ValueError, AttributeError, TypeError, KeyError):
        return {}


def outputs_at(revision: str, root: Path = Path()) -> dict[str, str]:
    """Return the path of each output that dvc.lock of a git revision records, with the name of its object.

    Raises:
        GitError: git does not know the revision, or it holds no dvc.lock.
        GraphError: that dvc.lock cannot be read.
    """
    text = git("show", "--end-of-options", f"{revision}:./{LOCK_FILE}", cwd=root)
    return outputs_of(parse_lock(text, f"{revision}:{LOCK_FILE}"))
