"""A clone of the repository at a small size in which its graph has run, for the command lines of the documents."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.shell import Shell, small
from tests.pipeline.dvc_project import Project
from tests.pipeline.real_project import edit_params

RUNS = ("random", "simclr", "gsimclr")
STATES = {"v1": 1, "v2": 50}  # tag -> neighbours of the probe knn
EXPERIMENT = "warmer"


def clone(root: Path, repository: Path) -> Project:
    """The files that git knows or may know, without tests and documents, committed in a repository of their own."""
    project = Project(root)
    listed = Project(repository).call("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").stdout
    for name in listed.split("\0"):
        if name and not name.startswith(("tests/", "docs/")) and (repository / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / name, root / name)
    (root / "dvc.lock").unlink()
    small(root / "params.yaml", RUNS)
    for plan in (root / "sweeps").glob("*.yaml"):
        small(plan)
    project.call("git", "init", "--quiet", "--initial-branch", "main")
    project.commit("the project")
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A clone after its first run and two changes, with a tag for each change and an experiment."""
    place = tmp_path_factory.mktemp("finished")
    make_finished(place, repository)
    return place


def make_finished(place: Path, repository: Path) -> None:
    """Make the clone `reprise` in a folder, run its graph, and change it twice."""
    project = clone(place / "reprise", repository)
    shell = Shell(project.root, place)
    shell.run("make repro")
    project.commit("the first run")
    for tag, neighbours in STATES.items():
        edit_params(project, probes__quality__knn__k=neighbours)
        shell.run("reprise repro")
        project.commit(f"{neighbours} neighbours")
        project.call("git", "tag", tag)
    shell.run(f"dvc exp run -S probes.quality.knn.k=9 --name {EXPERIMENT}")
    project.call("git", "checkout", "--quiet", "--", ".")
    shell.run("dvc --wait-for-lock checkout")
