"""Promote a run: a commit with what it was made from, a tag that `dvc artifacts get` knows, and a model card.

The commit holds the folder's tracked files as they are (parameters, dvc.lock, metrics), so the tag leads to exactly
this backbone. Neither the branch nor the index moves: the commit is the tag's alone, and whoever works in the folder
finds everything as it was. Tags are `RUN@vN.0.0`, counted up from 1.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.compare.challenge import tag_of, versions_of
from pipeline.exports.card import card, known_of_project
from pipeline.processes.git import git
from reprise.artifacts import layout
from reprise.artifacts.weights.backbones import read_config
from reprise.config.errors import BackboneError, GraphError
from reprise.config.params import read_yaml

CARDS = Path("promoted")  # below it, in the tag's commit, lies the card of each promoted run
_NOBODY = {"user.name": "Reprise", "user.email": "reprise@localhost"}  # where git knows no name
_MADE = ("dvc.lock", "metrics.json", "source.lock.json")  # by a run, which may not have been committed yet
_LOAD = """\
# reprise get {path} --rev {tag} --out FOLDER
import reprise

backbone = reprise.load_backbone("FOLDER")"""


@dataclass(frozen=True)
class Promoted:
    """What was made.

    Attributes:
        run: name of the run.
        tag: of the new version.
        commit: that the tag leads to.
        card: its path in that commit.
    """

    run: str
    tag: str
    commit: str
    card: Path


def promote(run: str, why: Sequence[str], root: Path = Path()) -> Promoted:
    """Make the backbone of a run in the folder its next version.

    Args:
        run: a row of `runs` or `adapt`, trained.
        why: sentences for the tag's message.
        root: the project folder.

    Raises:
        BackboneError: the run has not been trained.
        GitError: git cannot write.
        GraphError: another process promotes the run at this moment.
    """
    seed = read_yaml(root / layout.PARAMS)["seeds"][0]
    folder = root / layout.run(run, seed)
    if not folder.is_dir():
        raise BackboneError("there is no such trained run", where=folder, found="no folder", fix="Run `reprise repro`.")
    version = (versions_of(run, root) or [0])[-1] + 1
    tag, page = tag_of(run, version), CARDS / f"{run}.md"
    usage = _LOAD.format(path=layout.run(run, seed), tag=tag)
    volumes = "modality" in pq.read_schema(root / layout.MANIFEST).names  # images state none
    text = card(read_config(folder), known_of_project(run, seed), "torch", usage, volumes)
    commit = _commit(root, page, text, f"Promote {run} to {tag}")
    if git("tag", "--list", tag, cwd=root).strip():
        raise GraphError(
            "this version exists already", where=tag, found="a tag of another process", fix="Run the same again."
        )
    message = "\n\n".join([f"{run}, version {version}", *why])
    git(*_identity(root), "tag", "--annotate", tag, commit, "--message", message, cwd=root)
    return Promoted(run, tag, commit, page)


def _commit(root: Path, page: Path, text: str, subject: str) -> str:
    """Commit the folder's tracked files and one more, beside the branch, and return the commit."""
    parent = git("rev-parse", "HEAD", cwd=root).strip()
    prefix = git("rev-parse", "--show-prefix", cwd=root).strip()
    made = [name for name in _MADE if (root / name).is_file()]
    with tempfile.TemporaryDirectory(prefix="reprise-promote-") as scratch:
        written, index = Path(scratch) / "card.md", Path(scratch) / "index"
        written.write_text(text, encoding="utf-8")
        blob = git("hash-object", "-w", "--", str(written), cwd=root).strip()
        git("read-tree", parent, cwd=root, index=index)
        git("add", "--update", "--", ".", cwd=root, index=index)
        git("add", "--", *made, cwd=root, index=index)
        entry = f"100644,{blob},{prefix}{page.as_posix()}"
        git("update-index", "--add", "--cacheinfo", entry, cwd=root, index=index)
        tree = git("write-tree", cwd=root, index=index).strip()
    return git(*_identity(root), "commit-tree", tree, "-p", parent, "-m", subject, cwd=root).strip()


def _identity(root: Path) -> list[str]:
    """Options of git that name an author where git knows none."""
    return [
        word
        for name, value in _NOBODY.items()
        if not git("config", "--get", name, cwd=root).strip()
        for word in ("-c", f"{name}={value}")
    ]
