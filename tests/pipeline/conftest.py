"""A toy graph of the shape of the real one whose stages cost milliseconds, for the logic around DVC."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pipeline.dvc_project import Project, add_toy_stages, new_project
from tests.pipeline.real_project import real_project

_GRAPH = """
stages:
  shard:
    desc: Images
    cmd: python -m stages.work data/shards input.txt
    deps: [input.txt, source.lock.json]
    outs: [data/shards]
  pretrain:
    matrix: {run: "${runs}", seed: "${seeds}"}
    cmd: python -m stages.work data/runs/${item.run.name}/${item.seed} methods/${item.run.method}.py
    deps: [data/shards, "methods/${item.run.method}.py"]
    params: [train, "methods.${item.run.name}"]
    outs: ["data/runs/${item.run.name}/${item.seed}"]
  probe:
    matrix: {run: "${runs}", seed: "${seeds}"}
    cmd: >-
      python -m stages.work data/probe/${item.run.name}/${item.seed}/features
      data/runs/${item.run.name}/${item.seed}/x
    deps: ["data/runs/${item.run.name}/${item.seed}"]
    outs: ["data/probe/${item.run.name}/${item.seed}/features"]
  summary:
    cmd: python -m stages.work data/summary params.yaml
    deps: [data/probe]
    params: [runs]
    outs: [data/summary]
    metrics:
      - metrics.json: {cache: false}
"""
_PARAMS = """
seeds: [0]
runs:
  - {name: random, method: random}
  - {name: simclr, method: simclr}
train: {rate: 0.1}
methods: {random: {}, simclr: {temperature: 0.5}}
"""
_WORK = """
import json, os, pathlib, sys, time
out, source = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
pathlib.Path("ran.log").open("a").write(os.environ["DVC_STAGE"] + "\\n")
text = source.read_text()
if "fail" in text:
    sys.exit("error: the toy was told to fail")
if "sleep" in text:
    pathlib.Path("sleeping").write_text(str(os.getpid()))
    time.sleep(600)
out.mkdir(parents=True, exist_ok=True)
(out / "x").write_text(f"{out}: {text}")
if out.name == "summary":
    pathlib.Path("metrics.json").write_text(json.dumps({"simclr": {"knn": {"top1": 0.5}}}))
"""


@pytest.fixture(scope="session", autouse=True)
def _import_path(repository: Path) -> Iterator[None]:
    """Let processes in a project find its own packages first (in the current folder), then those of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(repository))
        yield


@pytest.fixture
def toy(tmp_path: Path, repository: Path) -> Project:
    """A toy project before its first run."""
    return _toy(tmp_path / "toy", repository)


@pytest.fixture(scope="session")
def _toy_that_ran(tmp_path_factory: pytest.TempPathFactory, repository: Path, _import_path: None) -> Project:

    def build(root: Path) -> None:
        _toy(root, repository).reprise("repro")

    return Project(_once(tmp_path_factory, "toy-that-ran", build))


@pytest.fixture
def built(_toy_that_ran: Project, tmp_path: Path) -> Project:
    """A toy project after its first run: a copy of its own, with the log of what ran still in it."""
    shutil.copytree(_toy_that_ran.root, tmp_path / "toy", symlinks=True)
    return Project(tmp_path / "toy")


def _toy(root: Path, repository: Path) -> Project:
    project = new_project(root)
    project.write("dvc.yaml", _GRAPH)
    project.write("params.yaml", _PARAMS)
    project.write("input.txt", "images")
    project.write("methods/random.py", "1")
    project.write("methods/simclr.py", "2")
    add_toy_stages(project, repository, _WORK)
    return project


def _once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Build a folder once per session, in one worker of pytest-xdist; the folder must not be changed later."""
    base = factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent
    root, done = base / name, base / f"{name}.done"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            build(root)
            done.touch()
    return root


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory, repository: Path, _import_path: None) -> tuple[Project, str]:
    """The real graph in its smallest honest configuration after its first run, and what that run said."""

    def build(root: Path) -> None:
        project = real_project(root, repository)
        said = project.reprise("repro").stdout
        project.commit("the first run")
        root.with_suffix(".said").write_text(said, encoding="utf-8")

    root = _once(tmp_path_factory, "first-run", build)
    return Project(root), root.with_suffix(".said").read_text(encoding="utf-8")


@pytest.fixture
def real(first_run: tuple[Project, str], tmp_path: Path) -> Project:
    """A copy of that project."""
    shutil.copytree(first_run[0].root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")
