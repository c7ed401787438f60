"""Promote a run: a commit with what it was made from, a tag that `dvc artifacts get` knows, and a model card.

The commit holds the folder's tracked files as they are (parameters, dvc.lock, metrics), so the tag leads to exactly
this backbone. Neither the branch nor the index moves: the commit is the tag's alone, and whoever works in the folder
finds everything as it was. Tags are `RUN@vN.0.0`, counted up from 1.

What is promoted is what dvc.lock names: figures older than the folder, a dvc.lock without the run or one that changed
during the comparison, and plug-ins that git does not track are refused.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.compare.challenge import tag_of, versions_of
from pipeline.compare.freshness import refuse_old_figures
from pipeline.exports.card import card, known_of_project
from pipeline.graph.lock_file import LOCK_FILE, outputs_of, read_lock
from pipeline.processes.git import git
from reprise.artifacts import layout
from reprise.artifacts.weights.backbones import read_config
from reprise.config.errors import BackboneError, GitError, GraphError, listed
from reprise.config.params import read_yaml
from reprise.config.plug_ins.registry import USERS

CARDS = Path("promoted")  # below it, in the tag's commit, lies the card of each promoted run
_NOBODY = {"user.name": "Reprise", "user.email": "reprise@localhost"}  # where git knows no name
_MADE = ("dvc.lock", "metrics.json", "source.lock.json")  # by a run, which may not have been committed yet
_SHOWN = 8  # plug-ins that git does not track
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


def lock_digest(root: Path = Path()) -> str:
    """Return a digest of dvc.lock; empty where there is none."""
    path = root / LOCK_FILE
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def promote(run: str, why: Sequence[str], root: Path = Path(), judged: str | None = None) -> Promoted:
    """Make the backbone of a run in the folder its next version.

    Whoever calls holds the folder's run lock (`exclusive`). A plain DVC does not ask for it, so dvc.lock is compared.

    Args:
        run: a row of `runs` or `adapt`, trained.
        why: sentences for the tag's message.
        root: the project folder.
        judged: `lock_digest` from before the comparison; None takes that of now.

    Raises:
        BackboneError: the run has not been trained.
        GitError: git cannot write, or does not track a plug-in.
        GraphError: dvc.lock does not name the run's output, or changed; or another process promotes the run.
        ResultError: the folder's figures are not those of its present parameters, data and code.
    """
    judged = lock_digest(root) if judged is None else judged
    seed = read_yaml(root / layout.PARAMS)["seeds"][0]
    folder = root / layout.run(run, seed)
    if not folder.is_dir():
        raise BackboneError("there is no such trained run", where=folder, found="no folder", fix="Run `reprise repro`.")
    _refuse_untracked(root)
    _refuse_unnamed(run, seed, root)
    old = refuse_old_figures([run], root)
    version = (versions_of(run, root) or [0])[-1] + 1
    tag, page = tag_of(run, version), CARDS / f"{run}.md"
    usage = _LOAD.format(path=layout.run(run, seed), tag=tag)
    volumes = "modality" in pq.read_schema(root / layout.MANIFEST).names  # images state none
    text = card(read_config(folder), known_of_project(run, seed, old), "torch", usage, volumes)
    commit = _commit(root, page, text, f"Promote {run} to {tag}")
    if lock_digest(root) != judged:
        raise GraphError(
            "the results changed while they were compared or committed",
            where=root / LOCK_FILE,
            found="another content than at the beginning; a DVC that does not ask for the folder may have run",
            fix="Wait until it ends, and promote again.",
        )
    if git("tag", "--list", tag, cwd=root).strip():
        raise GraphError(
            "this version exists already", where=tag, found="a tag of another process", fix="Run the same again."
        )
    message = "\n\n".join([f"{run}, version {version}", *why])
    git(*_identity(root), "tag", "--annotate", tag, commit, "--message", message, cwd=root)
    return Promoted(run, tag, commit, page)


def _refuse_untracked(root: Path) -> None:
    """Refuse plug-ins that the commit would leave out, so that the version could not be made again."""
    found = git("ls-files", "-z", "--others", "--exclude-standard", "--", USERS, cwd=root).split("\0")
    untracked = [name for name in found if name and "__pycache__" not in Path(name).parts]
    if untracked:
        raise GitError(
            "git does not track all plug-ins, so the version would lack them",
            where=root / USERS,
            found=listed(untracked[:_SHOWN]),
            fix=f"Add what the run needs: `git add {USERS}`; name the others in .gitignore.",
        )


def _refuse_unnamed(run: str, seed: int, root: Path) -> None:
    """Refuse a run whose output dvc.lock does not name, because nobody could fetch it by the tag."""
    output = layout.run(run, seed).as_posix()
    if output not in outputs_of(read_lock(root)):
        raise GraphError(
            "dvc.lock does not name the run's output, so the tag would lead to nothing",
            where=root / LOCK_FILE,
            found=f"no output {output}",
            fix="Run `reprise repro`, which trains the run or takes it from the cache.",
        )


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
        git("add", "--force", "--", *made, *_plug_ins(root), cwd=root, index=index)
        entry = f"100644,{blob},{prefix}{page.as_posix()}"
        git("update-index", "--add", "--cacheinfo", entry, cwd=root, index=index)
        tree = git("write-tree", cwd=root, index=index).strip()
    return git(*_identity(root), "commit-tree", tree, "-p", parent, "-m", subject, cwd=root).strip()


def _plug_ins(root: Path) -> list[str]:
    """List the plug-ins that git tracks, those included that were added and not yet committed."""
    tracked = git("ls-files", "-z", "--", USERS, cwd=root).split("\0")
    return [name for name in tracked if name and (root / name).is_file()]


def _identity(root: Path) -> list[str]:
    """Options of git that name an author where git knows none."""
    return [
        word
        for name, value in _NOBODY.items()
        if not git("config", "--get", name, cwd=root).strip()
        for word in ("-c", f"{name}={value}")
    ]
