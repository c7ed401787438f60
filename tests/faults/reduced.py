"""Projects for fault tests: the real stages, a graph and parameters cut down to what takes seconds."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.pipeline.dvc_project import Project
from tests.pipeline.real_project import real_project
from tests.workspace import make_shards


def one_run(root: Path, repository: Path, epochs: int, checkpoint_steps: int = 3) -> Project:
    """The whole graph for one run of SimCLR without label sets: ten stages, of which training takes longest."""
    project = real_project(root, repository)
    params = read(project.root / "params.yaml")
    params["runs"] = [{"name": "simclr", "method": "simclr", "labels": "none"}]
    params["mines"] = [row for row in params["mines"] if row["name"] == "none"]
    params["features"] = [row for row in params["features"] if row["name"] == "pixels"]
    params["groups"] = [{"name": "quality"}]
    params["methods"] = {"simclr": {"temperature": 0.2}}
    params["mining"] = {"none": {}}
    params["extractors"] = {"pixels": {"components": 8}}
    params["probes"] = {"quality": params["probes"]["quality"]}
    params["train"]["epochs"] = epochs
    params["train"]["checkpoint_steps"] = checkpoint_steps
    write(project.root / "params.yaml", params)
    project.commit("one run")
    return project


def training_only(root: Path, repository: Path, epochs: int) -> Project:
    """check, features, mine and pretrain on 160 digits that are in the shards already."""
    project = one_run(root, repository, epochs, checkpoint_steps=20)
    graph = read(root / "dvc.yaml")
    kept = ("check", "features", "mine", "pretrain")
    write(root / "dvc.yaml", {"stages": {name: graph["stages"][name] for name in kept}})
    params = read(root / "params.yaml")
    params["train"]["batch_size"] = 16
    write(root / "params.yaml", params)
    with chdir(root):
        make_shards()
    project.commit("training only")
    return project


def read(path: Path) -> Any:
    """A YAML file with its comments."""
    return YAML().load(path.read_text(encoding="utf-8"))


def write(path: Path, value: Any) -> None:
    """A YAML file."""
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(value, file)
