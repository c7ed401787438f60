"""Projects for fault tests: the real stages, a graph and parameters cut down to what takes seconds."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import Any

import pyarrow as pa
from ruamel.yaml import YAML

from reprise.artifacts.labels.label_sets import FILE, SCHEMA, write_pseudo_labels
from reprise.artifacts.shards import Shards
from tests.pipeline.dvc_project import Project
from tests.pipeline.real_project import real_project
from tests.workspace import make_shards

LABELS = Path("data/mine/none/0")


def one_run(root: Path, repository: Path, epochs: int, checkpoint_steps: int = 3) -> Project:
    """The whole graph for one run of SimCLR without label sets: a dozen stages, of which training takes longest."""
    project = real_project(root, repository)
    params = read(project.root / "params.yaml")
    params["runs"] = [{"name": "simclr", "method": "simclr", "labels": "none"}]
    params["mines"], params["features"] = [], []
    params["suites"] = [{"name": "quality"}]
    params["methods"] = {"simclr": {"temperature": 0.2}}
    params["mining"], params["extractors"] = {}, {}
    params["models"], params["model_options"] = [], {}
    params["probes"] = {"quality": params["probes"]["quality"]}
    params["train"]["epochs"] = epochs
    params["train"]["checkpoint_steps"] = checkpoint_steps
    write(project.root / "params.yaml", params)
    project.commit("one run")
    return project


def training_only(root: Path, repository: Path, epochs: int) -> Project:
    """check and pretrain on 160 digits; the shards are there already, and `given_labels` copies an empty label set."""
    project = one_run(root, repository, epochs, checkpoint_steps=1000)
    graph = read(root / "dvc.yaml")["stages"]
    copied = {"cmd": f"mkdir -p {LABELS.parent} && cp -r labels {LABELS}", "deps": ["labels"], "outs": [str(LABELS)]}
    stages = {"check": graph["check"], "given_labels": copied, "models": graph["models"], "pretrain": graph["pretrain"]}
    stages["facts"] = graph["facts"]
    write(root / "dvc.yaml", {"stages": stages})
    params = read(root / "params.yaml")
    params["train"]["batch_size"] = 16
    write(root / "params.yaml", params)
    with chdir(root):
        make_shards()
        rows = [
            {"key": key, "cluster": None, "distance": None, "confidence": None, "round": 0}
            for key in Shards.open().keys[Shards.open().rows("train")]
        ]
        write_pseudo_labels(Path("labels") / FILE, pa.Table.from_pylist(rows, SCHEMA))
    project.commit("training only")
    return project


def read(path: Path) -> Any:
    """A YAML file with its comments."""
    return YAML().load(path.read_text(encoding="utf-8"))


def write(path: Path, value: Any) -> None:
    """A YAML file."""
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(value, file)
