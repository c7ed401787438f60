"""What git refuses becomes a sentence with git's own text below it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.compare.revisions import read_measurements, resolve
from pipeline.flows.artifacts import lineage_markdown
from pipeline.processes.git import git
from pipeline.sweeps.clone import find_base
from reprise.config.errors import GitError, GraphError, RepriseError, ResultError
from reprise.storage import provenance


@pytest.fixture
def repository_(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    git("add", "--all", cwd=tmp_path)
    return tmp_path


def commit(root: Path) -> str:
    git("commit", "--quiet", "--message", "a", cwd=root)
    return git("rev-parse", "HEAD", cwd=root).strip()


def refusal(root: Path) -> str:
    with pytest.raises(GitError) as refused:
        git("status", cwd=root)
    return str(refused.value)


def test_a_repository_of_another_user(repository_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(repository_)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch for this test
    said = refusal(repository_)
    assert said.startswith(
        f"git does not trust this repository, because it belongs to another user in {repository_}:\n"
    )
    assert f"\n  | fatal: detected dubious ownership in repository at '{repository_}'" in said
    assert said.endswith(f"`git config --global --add safe.directory {repository_}`.")
    for ask in (lambda: resolve("HEAD", repository_), lambda: find_base(repository_)):
        with pytest.raises(GitError, match="belongs to another user"):
            ask()
    assert "unknown: git does not trust this repository" in lineage_markdown(repository_, [])
    monkeypatch.chdir(repository_)
    assert provenance.revision().startswith("unknown (fatal: detected dubious ownership")


def test_no_git(repository_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository_))
    with pytest.raises(GitError, match=r"git is not installed, or not on PATH .*PATH=.*Install git"):
        git("status", cwd=repository_)
    monkeypatch.chdir(repository_)
    assert provenance.revision().startswith("unknown (")


def test_no_repository_and_no_commit(repository_: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    said = refusal(tmp_path_factory.mktemp("bare"))
    assert said.startswith("this folder is not in a git repository in ")
    assert "| fatal: not a git repository" in said
    with pytest.raises(GraphError, match="a repository without any commit"):
        resolve("HEAD", repository_)
    with pytest.raises(RepriseError, match="a sweep needs a git commit"):
        find_base(repository_)
    assert "none: there is no commit yet" in lineage_markdown(repository_, [])


def test_a_detached_head_works(repository_: Path) -> None:
    head = commit(repository_)
    git("checkout", "--quiet", "--detach", cwd=repository_)
    assert resolve("HEAD", repository_) == head
    assert find_base(repository_).commit == head
    with pytest.raises(GraphError, match="no commit of that name"):
        resolve("none-of-that-name", repository_)
    with pytest.raises(ResultError, match=r"holds no metrics.*git has no such file at this revision"):
        read_measurements("HEAD", repository_)


def test_names_that_are_not_ascii_and_a_name_that_is_not_text(repository_: Path) -> None:
    (repository_ / "é.txt").write_text("")
    (repository_ / "b\udcff.txt").write_text("")
    assert git("status", "--porcelain", "-z", "--untracked-files", cwd=repository_).count("??") == 2


@pytest.mark.parametrize(
    ("spoil", "what", "shown"),
    [
        (lambda root: (root / ".git/index.lock").touch(), "another git process works", "index.lock': File exists"),
        (lambda root: (root / ".git/config").write_text("[core\nx"), "cannot read its settings", "bad config line 1"),
        (lambda root: (root / ".git/index").write_bytes(b"x" * 100), "damaged|git failed", "index"),
        (lambda root: (root / ".git/HEAD").write_text("\x1b[31m"), "not in a git repository", "not a git repository"),
    ],
    ids=["lock", "settings", "index", "head"],
)
def test_what_a_kill_or_an_editor_left(repository_: Path, spoil, what: str, shown: str) -> None:
    spoil(repository_)
    with pytest.raises(GitError, match=what) as refused:
        git("add", "--all", cwd=repository_)
    assert shown in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_gits_text_shows_no_password(repository_: Path) -> None:
    with pytest.raises(GitError) as refused:
        git("fetch", "https://me:canary@nohost.invalid/x", cwd=repository_)
    assert "nohost.invalid" in str(refused.value)
    assert "canary" not in str(refused.value)
