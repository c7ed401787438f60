"""A project of two committed revisions with images, shards, curves and answers, and the folder with a third state."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reprise.artifacts.manifest import write_manifest
from reprise.artifacts.results import write_predictions
from tests.pipeline.dvc_project import Project, new_project

HOSTILE = "<script>alert(1)</script>"
IMAGES = 60
RUNS = ("simclr", "random")
GRAPH = """
stages:
  ingest:
    cmd: mkdir -p data/ingest && cp given/manifest.parquet data/ingest/
    deps: [given/manifest.parquet]
    outs: [data/ingest]
  pretrain:
    matrix: {run: [simclr, random], seed: "${seeds}"}
    cmd: mkdir -p data/runs/${item.run}/${item.seed}
    params: [train, methods]
    outs: ["data/runs/${item.run}/${item.seed}"]
  probe:
    matrix: {run: [simclr, random], seed: "${seeds}"}
    cmd: mkdir -p data/probe/${item.run} && cp -r given/${item.run}/${item.seed} data/probe/${item.run}/${item.seed}
    deps: ["given/${item.run}/${item.seed}"]
    outs: ["data/probe/${item.run}/${item.seed}"]
  summary:
    cmd: mkdir -p data/summary && cp given/*.csv given/comparison.json data/summary/ && cp given/metrics.json .
    deps: [given/table.csv, given/curves.csv, given/comparison.json, given/metrics.json]
    outs: [data/summary]
    metrics: [metrics.json: {cache: false}]
"""


def params(epochs: int = 4, temperature: float = 0.5, seeds: int = 1) -> dict[str, object]:
    """The parameters of the project."""
    return {
        "seeds": list(range(seeds)),
        "runs": [{"name": "simclr", "method": "simclr"}, {"name": "random", "method": "random"}],
        "train": {"epochs": epochs, "rate": 0.1},
        "methods": {"simclr": {"temperature": temperature}, "random": {}},
        "summary": {"family": "knn.top1"},
    }


def keys(images: int = IMAGES, first: int = 0) -> list[str]:
    """Keys of images, as `tests.small_shards` makes them."""
    return [hashlib.sha256(b"%d" % i).hexdigest()[:24] for i in range(first, first + images)]


def give(
    project: Project, accuracy: dict[str, float], *, images: int = IMAGES, epochs: int = 4, turned: int = 0
) -> None:
    """Write what the stages copy: answers of which the first are right, `turned` of them the other way round."""
    rows, curves, means = ["run,seed,probe,metric,value,low,high,n"], ["run,seed,epoch,step,loss"], {}
    for run, value in accuracy.items():
        right = np.arange(images) < round(value * images)
        right[:turned] = ~right[:turned]
        share = float(right.mean())
        means[run] = {"knn": {"top1": share}, "linear": {"top1": share / 2}}
        rows += [
            f"{run},0,knn,top1,{share},{share - 0.05},{share + 0.05},{images}",
            f"{run},0,linear,top1,{share / 2},,,{images}",
        ]
        curves += [
            f"{run},0,{epoch},{epoch},{1 / (epoch + 1) if run == 'simclr' else 'nan'}" for epoch in range(epochs)
        ]
        table = pa.table({
            "key": keys(images),
            "label": ["cat"] * images,
            "predicted": np.where(right, "cat", HOSTILE).tolist(),
            "correct": right.tolist(),
            "score": pa.array([0.5] * images, pa.float32()),
            "group": pa.nulls(images, pa.string()),
        })  # fmt: skip
        write_predictions(project.root / f"given/{run}/0/features/quality/predictions-knn.parquet", table)
    project.write("given/table.csv", "\n".join(rows) + "\n")
    project.write("given/curves.csv", "\n".join(curves) + "\n")
    budgets = {run: {"steps": 4, "epochs": epochs, "images_seen": epochs * images} for run in accuracy}
    project.write("given/comparison.json", json.dumps({"budget": budgets}))
    project.write("given/metrics.json", json.dumps(means))
    write_manifest(project.root / "given/manifest.parquet", manifest(images))


def manifest(images: int) -> pa.Table:
    """A table of images whose paths are hostile."""
    count = range(images)
    return pa.table({
        "key": keys(images), "path": [f"{HOSTILE}/{i}.png" for i in count], "offset": [0] * images,
        "bytes": [1] * images, "split": ["test" if i % 2 else "train" for i in count], "label": ["cat"] * images,
        "width": pa.array([8] * images, pa.int32()), "height": pa.array([8] * images, pa.int32()),
        "channels": pa.array([3] * images, pa.int8()), "format": ["PNG"] * images, "plain": [True] * images,
        "pixels": [f"{i:064x}" for i in count], "sha256": [f"{i:064x}" for i in count],
    })  # fmt: skip


@pytest.fixture(scope="session")
def _two_revisions_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = new_project(tmp_path_factory.mktemp("sides") / "project")
    project.write("dvc.yaml", GRAPH)
    project.write("params.yaml", json.dumps(params()))
    give(project, {"simclr": 0.8, "random": 0.5})
    project.dvc("repro", "--quiet")
    project.commit(f"first {HOSTILE}")
    project.write("params.yaml", json.dumps(params(temperature=0.2)))
    give(project, {"simclr": 0.9, "random": 0.5}, turned=3)
    project.dvc("repro", "--quiet")
    project.commit("a lower temperature")
    return project


@pytest.fixture
def two(_two_revisions_once: Project, tmp_path: Path) -> Project:
    """A copy of the project with two revisions."""
    shutil.copytree(_two_revisions_once.root, tmp_path / "two", symlinks=True)
    return Project(tmp_path / "two")
