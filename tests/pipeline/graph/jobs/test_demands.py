"""What the stages of the default graph ask of a machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.graph.definition import load_graph
from pipeline.graph.jobs.demands import demands_of, expected_seconds
from pipeline.graph.jobs.machine import Demand
from reprise.artifacts.layout import NEEDS
from reprise.storage.provenance import FOLDER

GIB = 1 << 30


@pytest.fixture
def root(tmp_path: Path, repository: Path) -> Path:
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_bytes((repository / name).read_bytes())
    (tmp_path / NEEDS).parent.mkdir()
    needs = {"simclr": {"memory": 7 * GIB, "device": "auto", "processes": 2}}
    (tmp_path / NEEDS).write_text(json.dumps(needs | {"gsimclr": {"memory": GIB, "device": "cpu", "processes": 1}}))
    return tmp_path


def test_trainings_have_gpus_of_their_own_and_what_takes_seconds_shares_one(root: Path) -> None:
    graph = load_graph(root)
    demands = {graph.title(name): demand for name, demand in demands_of(graph.stages, root).items()}
    assert demands["pretrain simclr seed 0"] == Demand(7 * GIB, gpus=2, places=2)
    assert demands["pretrain gsimclr seed 0"] == Demand(GIB)
    assert demands["pretrain supervised seed 0"] == Demand(GIB, gpus=1)
    assert demands["train_models seed 0"] == Demand(GIB, gpus=1)
    assert demands["probe simclr seed 0"] == demands["embed simclr seed 0"] == Demand(GIB, shares_gpu=True)
    assert demands["report"] == demands["shard"] == Demand(GIB)


def test_what_cannot_be_read_counts_as_an_ordinary_stage(root: Path) -> None:
    (root / NEEDS).write_text("[")
    graph = load_graph(root)
    assert demands_of(graph.stages, root)["pretrain@run3-0"] == Demand(GIB, gpus=1)


def test_what_took_long_the_last_time_is_expected_to_take_long(root: Path) -> None:
    graph = load_graph(root)
    guessed = expected_seconds(graph.stages, graph, root)
    assert guessed["pretrain@run3-0"] > guessed["embed@run3-0"] > 0
    note = root / FOLDER / "embed/simclr/0.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"seconds": 99.5}))
    assert expected_seconds(graph.stages, graph, root)["embed@run3-0"] == 99.5
