"""Facts in training: a method gets what it declares and may see, and nothing else; a wrong fact is a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import read_config
from reprise.config.errors import TrainingError
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import RunRow
from reprise.storage.work_folder import file_digest
from stages.pretrain.inputs.facts import batch_facts, read_run_facts
from stages.pretrain.method import Batch, Method
from stages.pretrain.run import pretrain
from tests.known_facts import write_facts_of_run, write_known_facts
from tests.stages.pretrain.conftest import IMAGE, TINY

METHOD = """
import torch
from stages.pretrain.method import Method


class PoseReader(Method):
    views = 1
    reads = ("pose", "caption")

    def __init__(self, backbone, params, context):
        super().__init__(backbone, params, context)
        lengths = [len(texts[0]) for texts in context.facts["caption"]]
        self.register_buffer("lengths", torch.tensor(lengths).float())
        self.head = torch.nn.Linear(backbone.num_features, 4)

    def step(self, batch):
        features = self.backbone(batch.views[0])
        loss = (self.head(features) - batch.fact("pose")).square().mean()
        return loss + 0 * self.lengths[batch.rows].sum(), {"features": features}
"""


def row(labels: str = "none", name: str = "reader") -> RunRow:
    return RunRow(name=name, method="reader", labels=labels)


def keys() -> np.ndarray:
    shards = Shards.open()
    return shards.keys[shards.rows("train")]


def test_a_user_s_method_is_trained_on_facts_that_it_declares(digits: Path) -> None:
    file = digits / "plugins/methods/reader.py"
    file.parent.mkdir(parents=True)
    file.write_text(METHOD, encoding="utf-8")
    write_known_facts()
    kind = load_class("methods", "reader", Method, "runs")
    write_facts_of_run("reader", kind.reads)
    one = TINY.model_copy(update={"epochs": 1, "warmup_epochs": 0})
    for out in ("a", "b"):
        pretrain(row(), 0, IMAGE, one, kind.Params(), Path(out), restart=False)
    assert file_digest("a") == file_digest("b")
    assert read_config(Path("a"))["reads"] == ["caption", "pose"]
    write_known_facts(seed=1)  # other labels
    write_facts_of_run("reader", kind.reads)
    pretrain(row(), 0, IMAGE, one, kind.Params(), Path("c"), restart=False)
    assert file_digest("a/backbone.safetensors") == file_digest("c/backbone.safetensors")


def test_facts_come_in_the_order_of_the_training_images(digits: Path) -> None:
    write_known_facts()
    names = ("angle", "bold", "writer", "caption", "pose")
    write_facts_of_run("reader", names)
    found = read_run_facts(row("truth"), names, keys())
    backwards = read_run_facts(row("truth"), names, keys()[::-1])
    for name in names:
        assert found[name].tolist() == backwards[name][::-1].tolist()
    arrays = batch_facts(found)
    assert {name: (values.shape, values.dtype.name) for name, values in arrays.items()} == {
        "angle": ((80,), "float32"),
        "bold": ((80,), "float32"),
        "writer": ((80,), "int64"),
        "pose": ((80, 4), "float32"),
    }
    words = sorted(set(found["writer"].tolist()))
    assert [words[i] for i in arrays["writer"]] == found["writer"].tolist()


@pytest.mark.parametrize(
    ("reads", "labels", "message"),
    [
        (("angle",), "none", "reads the fact 'angle', which is a label, and the run is not trained on the truth"),
        (("angle",), "mined", "which is a label"),
        (("depth",), "none", "reads the fact 'depth', and nothing gives it"),
        (("motion",), "truth", "no view moves a fact of this kind"),
    ],
)
def test_facts_that_a_run_may_not_see_are_refused(
    digits: Path, reads: tuple[str, ...], labels: str, message: str
) -> None:
    write_known_facts()
    write_facts_of_run("reader", reads)
    with pytest.raises(TrainingError, match=message):
        read_run_facts(row(labels), reads, keys())


def test_facts_that_are_known_of_no_image_are_refused(digits: Path) -> None:
    write_known_facts()
    write_facts_of_run("reader", ["caption"])
    with pytest.raises(TrainingError, match="known of no training image"):
        read_run_facts(row(), ["caption"], np.array(["0" * 24], dtype=object))


def test_a_fact_that_was_not_declared_is_a_defect_of_the_method() -> None:
    batch = Batch([], torch.arange(2), facts={"pose": torch.zeros(2, 3)})
    assert batch.fact("pose").shape == (2, 3)
    with pytest.raises(KeyError, match="must declare 'mask' in `reads`"):
        batch.fact("mask")
