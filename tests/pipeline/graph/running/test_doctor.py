"""`reprise doctor` names what is missing, and what to do about it."""

from __future__ import annotations

import errno
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from pipeline.graph.remotes import remote
from pipeline.graph.running import doctor
from pipeline.graph.running.doctor import NOTE, WELL, WRONG, examine
from reprise.storage.stores.file_store import FileStore

LIGHT = 'print(\'{"version": "2.13.0", "built for": null, "gpus": []}\')'


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ASK_TORCH", LIGHT)


def states(root: Path | None) -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in examine(root)}


def test_a_sound_project_has_no_problem(tmp_path: Path, light: None) -> None:
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    found = states(tmp_path)
    assert found.keys() >= {"versions", "packages", "torch", "git", "disk", "locks", "remote"}
    assert {f.state for f in found.values()} <= {WELL, NOTE}
    assert found["remote"].state == NOTE
    assert "commit" in found["git"].found
    assert {finding.what for finding in found.values()} == found.keys()


def test_missing_and_other_packages_are_named(monkeypatch: pytest.MonkeyPatch, light: None) -> None:
    asked = ["numpy>=99", "no-such-package>=1", "torch", "absent; extra == 'x'"]
    monkeypatch.setattr(metadata, "requires", lambda name: asked)
    found = states(None)["packages"]
    assert found.state == WRONG
    assert "no-such-package is missing" in found.found
    assert f"numpy {metadata.version('numpy')} is installed, and >=99 is asked for" in found.found
    assert "absent" not in found.found


def test_torch_that_does_not_start_and_a_gpu_that_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ASK_TORCH", "raise ImportError('libcudart.so.13: no such file')")
    found = states(None)["torch"]
    assert (found.state, "libcudart.so.13" in found.found) == (WRONG, True)
    monkeypatch.setattr(doctor, "_ASK_TORCH", LIGHT)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    found = states(None)["torch"]
    assert (found.state, "NVIDIA driver" in found.found) == (NOTE, True)


def test_a_torchvision_for_another_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = LIGHT.replace('"gpus"', '"torchvision": "operator torchvision::nms does not exist", "gpus"')
    monkeypatch.setattr(doctor, "_ASK_TORCH", broken)
    found = states(None)["torch"]
    assert (found.state, "torchvision::nms" in found.found) == (NOTE, True)


def test_a_folder_without_git_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, light: None) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9 - 10, 10))
    found = states(tmp_path)
    assert found["git"].state == WRONG
    assert "git init" in found["git"].fix
    assert (found["disk"].state, "dvc gc" in found["disk"].fix) == (NOTE, True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a remote in the folder `store` beside it."""
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=root, check=True)
    config = f"[core]\n    remote = far\n['remote \"far\"']\n    url = {tmp_path}/store\n"
    (root / ".dvc/config").write_text(config)
    return root


def test_the_remote_is_written_read_and_left_as_it_was(project: Path) -> None:
    store = project.parent / "store"
    found = doctor._remote(project)
    assert (found.state, "does not exist" in found.found, store.exists()) == (NOTE, True, False), found
    store.mkdir()
    (store / "theirs").write_text("kept")
    found = doctor._remote(project)
    assert (found.state, "written to it, read and removed" in found.found) == (WELL, True), found
    assert [path.name for path in store.iterdir()] == ["theirs"]


def test_a_remote_that_cannot_be_written_is_a_problem(project: Path) -> None:
    (project.parent / "store").write_text("a file in the place of the folder")
    found = doctor._remote(project)
    assert found.state == WRONG
    assert "Traceback" not in found.found
    (project / ".dvc/config").write_text((project / ".dvc/config").read_text().replace("url = ", "url = http://x"))
    found = doctor._remote(project)
    assert (found.state, "a web server, which is only read" in found.found) == (WELL, True), found


def test_a_remote_that_never_answers_is_given_up(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "try_remote", lambda name, root: remote.try_remote(name, root, 0.1))
    monkeypatch.setattr(remote.dvc, "try_remote", lambda root, on_line, cancelled: 143 * cancelled.wait(30))
    found = doctor._remote(project)
    assert (found.state, "no answer within 0.1 s" in found.found) == (WRONG, True), found


def test_the_store_of_shards_is_written_read_and_left_as_it_was(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (tmp_path / "params.yaml").write_text(f"shard: {{store: 'file://{store}'}}")
    (found,) = doctor._store(tmp_path)
    assert (found.what, found.state, store.exists()) == ("store", NOTE, False), found
    store.mkdir()
    (found,) = doctor._store(tmp_path)
    assert (found.what, found.state) == ("store", WELL)
    assert list(store.iterdir()) == []
    store.rmdir()
    store.write_text("no folder")
    (found,) = doctor._store(tmp_path)
    assert (found.what, found.state, str(store) in found.found) == ("store", WRONG, True), found


def test_a_share_that_is_gone_and_a_wrong_section_are_no_tracebacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(self: FileStore, *arguments: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    (tmp_path / "store").mkdir()
    monkeypatch.setattr(FileStore, "send", stale)
    (tmp_path / "params.yaml").write_text(f"shard: {{store: 'file://{tmp_path}/store'}}")
    (found,) = doctor._store(tmp_path)
    assert (found.state, "Stale file handle" in found.found) == (WRONG, True), found
    for section in ("3", "[1]", "text"):
        (tmp_path / "params.yaml").write_text(f"shard: {section}")
        assert not list(doctor._store(tmp_path))  # `reprise check` says what is wrong with it
