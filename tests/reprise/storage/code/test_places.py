"""Where a project's code lies: in a clone, and in a project without code, which depends on links."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.graph.stage_modules import stage_command
from reprise.config.errors import GraphError
from reprise.storage.code import places
from reprise.storage.code.fingerprint import digest_of_project, fingerprint
from reprise.storage.code.places import LINKS, code_folders, link_installed_code, refuse_other_installation


@pytest.fixture
def without_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.yaml").write_text(f"deps: [{LINKS}/reprise, {LINKS}/stages]\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_clone_has_its_own_code_and_no_links(tmp_path: Path, repository: Path) -> None:
    link_installed_code(tmp_path)
    assert list(tmp_path.iterdir()) == []
    refuse_other_installation(tmp_path)
    assert code_folders(repository) == {"reprise": repository / "reprise", "stages": repository / "stages"}
    assert stage_command("stages.check", [], repository)[2:] == ["stages/run.py", "stages.check"]


def test_links_lead_to_the_code_that_runs_and_are_renewed(without_code: Path, repository: Path) -> None:
    with pytest.raises(GraphError, match=r"another installation.*no link.*reprise repro"):
        refuse_other_installation(without_code)
    link_installed_code(without_code)
    refuse_other_installation(without_code)
    assert {p: f.resolve() for p, f in code_folders(without_code).items()} == code_folders(repository)
    assert stage_command("stages.check", ["--data"], without_code)[1:] == [
        "-P", "-m", "reprise.start", "stages.check", "--data"
    ]  # fmt: skip
    (without_code / LINKS / "stages").unlink()
    (without_code / LINKS / "stages").symlink_to("/another/stages")
    with pytest.raises(GraphError, match="/another/stages"):
        refuse_other_installation(without_code)
    link_installed_code(without_code)
    refuse_other_installation(without_code)
    assert sorted(p.name for p in (without_code / LINKS).iterdir()) == ["reprise", "stages"]


def test_a_wheel_has_the_fingerprints_of_the_clone(
    without_code: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a wheel `stages` lies in reprise/installed, which counts neither twice nor as part of reprise."""
    site = without_code / "site"
    (site / "reprise/installed").mkdir(parents=True)
    for entry in (repository / "reprise").iterdir():
        (site / "reprise" / entry.name).symlink_to(entry)
    (site / "reprise/installed/stages").symlink_to(repository / "stages")
    before = fingerprint(["stages.shard.__main__"])
    monkeypatch.setattr(places, "_TOP", site)
    monkeypatch.setattr(places, "INSTALLED", site / "reprise/installed")
    assert fingerprint(["stages.shard.__main__"]) == before
    link_installed_code(without_code)
    assert (without_code / LINKS / "stages" / "shard").is_dir()


def test_the_digest_of_a_project_without_code_sees_installed_code(
    without_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = without_code / "site"
    (site / "reprise/installed/stages").mkdir(parents=True)
    monkeypatch.setattr(places, "_TOP", site)
    monkeypatch.setattr(places, "INSTALLED", site / "reprise/installed")
    link_installed_code(without_code)
    digests = {digest_of_project(without_code)}
    for name in ("reprise/low.py", "reprise/installed/stages/high.py"):
        (site / name).write_text("x = 1\n", encoding="utf-8")
        digests.add(digest_of_project(without_code))
    assert len(digests) == 3
    (site / "reprise/installed/README.py").write_text("x = 1\n", encoding="utf-8")
    assert digest_of_project(without_code) in digests, "the pipeline and project files of a wheel are no stage's code"
