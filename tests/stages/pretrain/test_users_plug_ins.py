"""A user's own backbone and method, each one file in `plugins/`, are trained and embedded like Reprise's."""

from __future__ import annotations

from pathlib import Path

from reprise.artifacts.embeddings import read_embeddings
from reprise.artifacts.weights.backbones import read_config
from reprise.config.params import read_yaml
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import RunRow
from stages.check.parameters import problems
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams
from stages.pretrain.method import Method
from stages.pretrain.run import pretrain
from tests.stages.pretrain.conftest import IMAGE, TINY

BACKBONE = """
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from plugins.parts import flattened
from reprise.config.params import StrictModel
from reprise.networks.backbone import Backbone


class OneLayerParams(StrictModel):
    width: Annotated[int, Field(ge=1)] = 12


class Network(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.num_features = width
        self.layer = nn.Linear(inputs, width)

    def forward(self, x):
        return torch.relu(self.layer(flattened(x)))


class OneLayer(Backbone):
    Params = OneLayerParams

    def build(self, channels, size, stem):
        return Network(channels * size * size, self.params.width)
"""
METHOD = """
from stages.pretrain.method import Method, embed_views


class Agree(Method):
    def step(self, batch):
        first, second = embed_views(self.backbone, batch.views).chunk(2)
        return (first - second).square().mean(), {"features": first}
"""
PARTS = "def flattened(x):\n    return x.flatten(1)\n"


def write_plug_ins(folder: Path) -> None:
    for path, text in (("backbones/one_layer", BACKBONE), ("methods/agreeing/agree", METHOD), ("parts", PARTS)):
        file = folder / f"plugins/{path}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def test_a_backbone_and_a_method_of_the_users_are_trained_and_embedded(digits: Path) -> None:
    write_plug_ins(digits)
    kind = load_class("methods", "agree", Method, "runs")
    out, row = Path("data/runs/own/0"), RunRow(name="own", method="agree", labels="none")
    pretrain(row, 0, IMAGE, TINY.model_copy(update={"backbone": "one_layer"}), kind.Params(), out, restart=False)
    config = read_config(out)
    assert (config["architecture"], config["num_features"], config["method"]) == ("one_layer", 12, "agree")
    embed("own", 0, EmbedParams(augmented=0), Path("data/embed/own/0"))
    assert read_embeddings("data/embed/own/0/embeddings.parquet")[2].shape == (160, 12)


def test_the_check_knows_them(digits: Path, repository: Path) -> None:
    write_plug_ins(digits)
    raw = read_yaml(repository / "params.yaml")
    raw["train"]["backbone"] = "one_layer"
    raw["runs"][3]["method"] = "agree"
    raw["methods"]["simclr"] = {}
    assert problems(raw) == []
    raw["train"]["backbone"] = "One-Layer"
    raw["runs"][3]["method"] = "agre"
    assert [(p.path, p.rule) for p in problems(raw)] == [
        ("train.backbone", "unknown backbone"),
        ("runs[3].method", "unknown method"),
    ]
    assert all("Did you mean" in p.hint for p in problems(raw))
