"""A folder of films becomes a project: `reprise init` chooses the preset whose source reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.projects.init import make_project
from tests.films import scenes, write_film


def test_a_folder_of_films_gets_their_preset(tmp_path: Path) -> None:
    for place in ("cat/a.mp4", "cat/b.webm", "dog/c.mov"):
        (tmp_path / "films" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "films" / place).touch()  # nothing is opened
    made = make_project(tmp_path / "project", images=tmp_path / "films")
    assert made.preset == "films"
    assert "3 films by name. The first folder is the class." in made.lines[0] and "`video`" in made.lines[1]
    params = (tmp_path / "project/params.yaml").read_text(encoding="utf-8")
    assert "name: video" in params and str(tmp_path / "films") in params


@pytest.mark.slow
def test_the_parameters_of_their_preset_are_valid(tmp_path: Path, repository: Path) -> None:
    pytest.importorskip("av")
    write_film(tmp_path / "films/cat/a.mp4", scenes(3))
    make_project(tmp_path / "project", images=tmp_path / "films")
    env = os.environ | {"PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", "from pipeline.cli.main import main; main()", "check"]
    done = subprocess.run(command, cwd=tmp_path / "project", env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
