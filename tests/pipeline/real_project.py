"""A copy of the repository with the smallest honest configuration: the real stages on real digits, one epoch."""

from __future__ import annotations

import shutil
from pathlib import Path

from ruamel.yaml import YAML

from tests.pipeline.dvc_project import Project, new_project

RUNS = ("random", "gsimclr")


def real_project(root: Path, repository: Path) -> Project:
    """The repository's graph and stages in a folder of its own, two runs, committed, not yet run."""
    project = new_project(root)
    for package in ("plugins", "reprise", "stages"):
        shutil.copytree(repository / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(repository / ".dvc/plots", root / ".dvc/plots")
    for name in ("dvc.yaml", ".dvcignore", "targets.csv"):
        shutil.copy(repository / name, root / name)
    yaml = YAML()
    params = yaml.load((repository / "params.yaml").read_text(encoding="utf-8"))
    params["runs"] = [row for row in params["runs"] if row["name"] in RUNS]
    for name in set(params["methods"]) - set(RUNS):
        del params["methods"][name]
    params["train"]["epochs"] = 1
    params["train"]["warmup_epochs"] = 0
    params["model_options"]["dae"]["epochs"] = 1
    params["mining"]["dae_kmeans"]["clusters"] = 32
    with (root / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    project.write("source.lock.json", "{}")
    project.commit("the project")
    return project


def edit_params(project: Project, **changes: object) -> None:
    """Set dotted keys of params.yaml, written with __ for the dots."""
    yaml = YAML()
    path = project.root / "params.yaml"
    params = yaml.load(path.read_text(encoding="utf-8"))
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        block = params
        for parent in parents:
            block = block[parent]
        block[last] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def remove_run(project: Project, name: str) -> None:
    """Take a run and its block out of params.yaml."""
    yaml = YAML()
    path = project.root / "params.yaml"
    params = yaml.load(path.read_text(encoding="utf-8"))
    params["runs"] = [row for row in params["runs"] if row["name"] != name]
    del params["methods"][name]
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def add_run(project: Project, name: str, labels: str) -> None:
    """Put a run of the method `name`, with default parameters, before all others."""
    yaml = YAML()
    path = project.root / "params.yaml"
    params = yaml.load(path.read_text(encoding="utf-8"))
    params["runs"].insert(0, {"name": name, "method": name, "labels": labels})
    params["methods"][name] = {}
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
