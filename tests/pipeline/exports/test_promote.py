"""A promotion makes a tag with all that the backbone was made from, and changes nothing else in the repository."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from pipeline.compare import challenge
from pipeline.compare.challenge import champion_of, versions_of
from pipeline.exports import promote as module
from pipeline.exports.promote import lock_digest, promote
from pipeline.flows.candidate import Candidate
from pipeline.graph.workspace import exclusive, holds
from pipeline.processes.git import git
from reprise.artifacts import layout
from reprise.artifacts.manifest import MANIFEST_SCHEMA, write_manifest
from reprise.config.errors import BackboneError, GitError, GraphError, ResultError
from tests.pipeline.dvc_project import Project, new_project
from tests.pipeline.exports.test_export import CONFIG

LOCK = json.dumps(
    {
        "schema": "2.0",
        "stages": {"pretrain@0": {"cmd": "pretrain", "outs": [{"path": "data/runs/simclr/0", "md5": "a1.dir"}]}},
    }
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = new_project(tmp_path / "project")
    project.write("params.yaml", "seeds: [0]\nruns: [{name: simclr, method: simclr, labels: none}]\n")
    project.commit("begin")
    project.write("params.yaml", "seeds: [0]\nruns: [{name: simclr, method: simclr, labels: none}]\nepochs: 9\n")
    for name in ("metrics.json", "source.lock.json"):
        project.write(name, json.dumps({"made": name}))
    project.write("dvc.lock", LOCK)
    project.write(
        str(layout.run("simclr", 0) / "config.json"),
        json.dumps({**CONFIG, "options": {}, "stem": "small", "heads": {}}),
    )
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(module, "refuse_old_figures", lambda runs, root: {})
    write_manifest(layout.MANIFEST, pa.Table.from_pylist([], MANIFEST_SCHEMA))
    return project


def state(root: Path) -> list[str]:
    """All of a repository that its user sees, but for tags."""
    asked = (["rev-parse", "HEAD"], ["status", "--porcelain"], ["diff"], ["diff", "--cached"], ["stash", "list"])
    return [git(*arguments, cwd=root) for arguments in asked]


def test_the_tag_holds_the_folder_as_it_is_and_nothing_else_moves(project: Project) -> None:
    root = project.root
    project.write("mine.txt", "work of mine")
    git("add", "mine.txt", cwd=root)
    before = state(root)
    assert champion_of("simclr", root) == ""
    done = promote("simclr", ["It is better."], root)
    assert state(root) == before
    assert done.tag == champion_of("simclr", root) == "simclr@v1.0.0"
    assert git("show", f"{done.tag}:dvc.lock", cwd=root) == LOCK
    assert "epochs: 9" in git("show", f"{done.tag}:params.yaml", cwd=root)
    card = git("show", f"{done.tag}:{done.card.as_posix()}", cwd=root)
    assert f"reprise get data/runs/simclr/0 --rev {done.tag}" in card
    assert "12,000" in card
    files = git("ls-tree", "-r", "--name-only", done.tag, cwd=root).split()
    assert "mine.txt" not in files  # staged, but new: nobody asked to publish it
    assert not any(name.startswith("data/runs") for name in files)
    assert "It is better." in git("tag", "--list", "--format=%(contents)", done.tag, cwd=root)
    assert promote("simclr", [], root).tag == "simclr@v2.0.0"
    assert versions_of("simclr", root) == [1, 2]


def test_versions_are_counted_as_numbers_and_other_tags_are_passed_over(project: Project) -> None:
    for tag in ("simclr@v9.0.0", "simclr@v10.0.0", "simclr@v11.1.0", "simclr@vx", "gsimclr@v40.0.0", "v50.0.0"):
        git("tag", tag, cwd=project.root)
    assert versions_of("simclr", project.root) == [9, 10]
    assert promote("simclr", [], project.root).tag == "simclr@v11.0.0"


def test_it_works_where_git_knows_no_name_and_below_the_repository(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    below = project.root / "deeper"
    below.mkdir()
    for name in ("params.yaml", "dvc.lock", "data"):
        (project.root / name).rename(below / name)
    git("add", "--all", "deeper", cwd=project.root)
    monkeypatch.chdir(below)
    done = promote("simclr", [], below)
    assert git("show", f"{done.tag}:deeper/promoted/simclr.md", cwd=below).count("# simclr") == 1


def test_a_run_that_is_not_trained_is_refused(project: Project) -> None:
    with pytest.raises(BackboneError, match="no such trained run"):
        promote("byol", [], project.root)


def test_the_plug_ins_are_part_of_the_version(project: Project) -> None:
    project.write("plugins/methods/mine.py", "NAME = 1\n")
    with pytest.raises(GitError, match=r"mine\.py(.|\n)*git add plugins"):
        promote("simclr", [], project.root)
    assert champion_of("simclr", project.root) == ""
    git("add", "plugins", cwd=project.root)
    before = state(project.root)
    tag = promote("simclr", [], project.root).tag  # added is enough
    assert git("show", f"{tag}:plugins/methods/mine.py", cwd=project.root) == "NAME = 1\n"
    assert state(project.root) == before


def test_only_what_dvc_lock_names_is_promoted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = lock_digest(project.root)
    project.write("dvc.lock", LOCK.replace("a1.dir", "b2.dir"))
    with pytest.raises(GraphError, match="changed while they were compared"):
        promote("simclr", [], project.root, judged)
    project.write("dvc.lock", LOCK.replace("simclr", "byol"))
    with pytest.raises(GraphError, match=r"data/runs/simclr/0(.|\n)*reprise repro"):
        promote("simclr", [], project.root)
    project.write("dvc.lock", LOCK)

    def old(runs: list[str], root: Path) -> None:
        raise ResultError("figures are older", where="metrics.json", found=runs, fix="Run `reprise repro`.")

    monkeypatch.setattr(module, "refuse_old_figures", old)
    with pytest.raises(ResultError, match="figures are older"):
        promote("simclr", ["Promoted without a comparison."], project.root)
    assert champion_of("simclr", project.root) == ""


def test_a_backbone_that_is_promoted_already_gets_no_new_version(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenge, "refuse_old_figures", lambda runs, root: None)
    monkeypatch.setattr(challenge, "tables", lambda raw: SimpleNamespace(seeds=[0]))
    tag = promote("simclr", [], project.root).tag
    project.write("dvc.lock", LOCK + "\n")  # the outputs count, not the bytes of the file
    found = challenge.challenge("simclr", root=project.root)
    assert found.identical and found.passed
    assert found.json()["scores"] is None
    candidate = Candidate("simclr")
    state = candidate.promote(project.root, print)
    assert state.is_completed()
    assert "promoted already" in str(state.message)
    assert champion_of("simclr", project.root) == tag
    project.write("dvc.lock", LOCK.replace("a1.dir", "b2.dir"))
    with pytest.raises(GraphError, match="cannot be compared with"):
        challenge.challenge("simclr", root=project.root)
    project.write("dvc.lock", LOCK.replace("runs/simclr/0", "runs/simclr/1"))
    with pytest.raises(GraphError, match="cannot be compared with"):  # other seeds are not the same version
        challenge.challenge("simclr", root=project.root)


def test_where_nobody_can_tell_it_is_held_and_not_an_error(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenge, "refuse_old_figures", lambda runs, root: None)
    monkeypatch.setattr(challenge, "tables", lambda raw: SimpleNamespace(seeds=[0]))
    answers = {
        "champion": [],
        "challenger": [],
        "groups": None,
        "left_out": 3,
        "unknown": "there are 0 labelled images",
    }
    monkeypatch.setattr(challenge, "_answers", lambda *arguments: [answers])
    tag = promote("simclr", [], project.root).tag
    project.write("dvc.lock", LOCK.replace("a1.dir", "b2.dir"))
    found = challenge.challenge("simclr", root=project.root)
    assert not found.passed
    assert (found.json()["unknown"], found.json()["scores"]) == ("there are 0 labelled images", None)
    state = Candidate("simclr").promote(project.root, print)
    assert (state.name, state.is_failed()) == ("Held", True)
    assert "nobody can tell whether it is better than simclr@v1.0.0: there are 0 labelled images." in str(state.message)
    assert "reprise promote --force" in str(state.message)
    assert champion_of("simclr", project.root) == tag


def test_the_command_does_not_promote_while_a_run_works(project: Project) -> None:
    project.write("dvc.yaml", "stages: {}\n")
    with exclusive(project.root, wait=False, say=print):
        assert holds(project.root)
        done = project.reprise("promote", "simclr", "--force", check=False)
    assert not holds(project.root)
    assert done.returncode != 0
    assert "another run works in this folder" in done.stderr
    assert champion_of("simclr", project.root) == ""
