"""A toy graph with a remote in a folder, and a scheduler for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.dvc_project import Project, add_toy_stages, new_project
from tests.pipeline.graph.machines.machines import GRAPH, PARAMS, WORK, Machines, add_remote, machines
from tests.pipeline.graph.remotes.conftest import credentials, s3  # noqa: F401 - fixtures


@pytest.fixture
def leader(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A committed project before its first run."""
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "ran.log"))
    project = new_project(tmp_path / "leader")
    project.write("dvc.yaml", GRAPH)
    project.write("params.yaml", PARAMS)
    project.write("input.txt", "images")
    project.write("source.lock.json", "{}")
    add_toy_stages(project, repository, WORK)
    add_remote(project, str(tmp_path / "store"))
    project.commit("the project")
    return project


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Machines]:
    """A scheduler without workers."""
    with machines(tmp_path / "machines") as found:
        yield found
