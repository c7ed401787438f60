"""`reprise doctor` names what is missing, and what to do about it."""

from __future__ import annotations

import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from pipeline.graph.running import doctor
from pipeline.graph.running.doctor import NOTE, WELL, WRONG, examine

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


def test_a_folder_without_git_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, light: None) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9 - 10, 10))
    found = states(tmp_path)
    assert found["git"].state == WRONG
    assert "git init" in found["git"].fix
    assert (found["disk"].state, "dvc gc" in found["disk"].fix) == (NOTE, True)
