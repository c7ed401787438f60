"""A toy graph whose figures follow from a parameter, whose stages fail or hang on request, and which logs what ran."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.sweeps.runner import SweepPlan
from tests.pipeline.dvc_project import Project, add_toy_stages, new_project

_GRAPH = """
stages:
  shard:
    cmd: python -m stages.work shard
    deps: [source.lock.json]
    outs: [data/shards]
  pretrain:
    matrix: {run: "${runs}", seed: "${seeds}"}
    cmd: python -m stages.work pretrain ${item.run.name} ${item.seed}
    deps: [data/shards]
    params: ["methods.${item.run.name}"]
    outs: ["data/runs/${item.run.name}/${item.seed}"]
  summary:
    cmd: python -m stages.work summary
    deps: [data/runs]
    params: [runs, seeds]
    outs: [data/summary]
    metrics:
      - metrics.json: {cache: false}
"""
_PARAMS = """\
seeds: [0]
runs:
  - {name: random, method: random}
  - {name: simclr, method: simclr}
methods: {random: {temperature: 0.5}, simclr: {temperature: 0.5}}
summary: {family: knn.top1}
"""
# `fail` fails; `hang` leaves half a result in its work folder and hangs, and continues when it finds that.
_WORK = """
import csv, json, os, pathlib, sys, time
from reprise.config.params import read_yaml
kind, *names = sys.argv[1:]
params = read_yaml()
def log(word):
    with open(os.environ["TOY_LOG"], "a") as file:
        file.write(" ".join([word, *names]) + "\\n")
if kind == "shard":
    log("shard")
    pathlib.Path("data/shards").mkdir(parents=True)
    pathlib.Path("data/shards/x").write_text("images")
elif kind == "pretrain":
    run, seed = names
    value = params["methods"][run]["temperature"]
    if value == "fail":
        sys.exit("error: the toy was told to fail, password=canary-in-a-message")
    half = pathlib.Path(".reprise/work/pretrain", run, seed, "half")
    if value == "hang" and not half.exists():
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_text("half")
        log("half")
        time.sleep(600)
    log("resumed" if half.exists() else "pretrain")
    out = pathlib.Path("data/runs", run, seed)
    out.mkdir(parents=True)
    (out / "value").write_text(json.dumps(0.9 if value == "hang" else value))
else:
    log("summary")
    rows = []
    for run in params["runs"]:
        for seed in params["seeds"]:
            value = float(pathlib.Path("data/runs", run["name"], str(seed), "value").read_text())
            figure = value + 0.01 * seed + 0.001 * seed * seed * value
            rows.append([run["name"], seed, "knn", "top1", figure / 2, "", "", 10])
            rows.append([run["name"], seed, "knn", "top1_val", figure, "", "", 10])
    out = pathlib.Path("data/summary")
    out.mkdir(parents=True)
    with open(out / "table.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\\n")
        writer.writerow(["run", "seed", "probe", "metric", "value", "low", "high", "n"])
        writer.writerows(rows)
    pathlib.Path("metrics.json").write_text(json.dumps({"simclr": {"knn": {"top1": rows[-1][4]}}}))
"""


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory, repository: Path, _import_path: None) -> Project:
    """A toy project after its first run, committed; never written."""
    project = new_project(tmp_path_factory.mktemp("template") / "toy")
    project.write("dvc.yaml", _GRAPH)
    project.write("params.yaml", _PARAMS)
    add_toy_stages(project, repository, _WORK)
    project.write("source.lock.json", "{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_LOG", os.devnull)
        project.reprise("repro")
    project.commit("the first run")
    return project


@pytest.fixture(scope="module")
def shared(_template: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy of it for all tests of a module; `log(project)` says what its stages did."""
    yield from _copied(_template, tmp_path_factory.mktemp("shared"))


@pytest.fixture
def fresh(_template: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of it for one test."""
    yield from _copied(_template, tmp_path)


def _copied(template: Project, folder: Path) -> Iterator[Project]:
    shutil.copytree(template.root, folder / "toy", symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_LOG", str(folder / "log"))
        yield Project(folder / "toy")


def log(project: Project) -> list[str]:
    """What stages did since the last call, sorted: "pretrain simclr 0"."""
    path = project.root.parent / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(lines)


def file_hashes(project: Project) -> dict[str, str]:
    """Return the hash of every file in the folder, except the notes of Reprise, DVC and git."""
    return {
        str(path.relative_to(project.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(project.root.rglob("*"))
        if path.is_file() and path.relative_to(project.root).parts[0] not in (".git", ".dvc", ".reprise")
    }


def plan(**fields: object) -> SweepPlan:
    """Return a plan called `warmer`."""
    return SweepPlan.model_validate({"name": "warmer", **fields})
