"""`weigh_by_confidence` of gsimclr in whole runs: what travels with a batch, both limits, resume, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.artifacts.shards import Shards
from reprise.config.errors import ParameterError, PseudoLabelError, TrainingError
from reprise.config.params import parse
from reprise.storage.work_folder import file_digest
from stages.pretrain.method import Batch
from stages.pretrain.methods.contrastive.gsimclr import GSimCLR, GSimCLRParams
from stages.pretrain.methods.contrastive.simclr import SimCLR
from stages.pretrain.views import make
from tests.stages.pretrain.conftest import TINY, write_label_set
from tests.stages.pretrain.test_run import run

ONE = TINY.model_copy(update={"epochs": 1, "warmup_epochs": 0})
WEIGHED = {"sampling": "random", "mask_negatives": True, "weigh_by_confidence": True}


def labelled(name: str, confidences: list[float | None]) -> None:
    """A label set of four clusters over the 80 images; every fifth has no label."""
    keys = Shards.open().keys[Shards.open().rows("train")]
    number = np.arange(len(keys))
    write_label_set(name, keys, np.where(number % 5 == 0, -1, number % 4), confidences=confidences)


def weights(method: str, out: str, **options) -> str:
    return file_digest(run(method, out, **options) / "backbone.safetensors")


@pytest.mark.parametrize("side", [64, 0])
def test_confidences_travel_with_their_images_and_only_where_they_are_asked_for(digits, monkeypatch, side):
    """On the batched path and on the one image by image."""
    monkeypatch.setattr(make, "BATCHED_SIDE", side)
    confidences = [None if i % 7 == 3 else i / 80 for i in range(80)]
    labelled("sure", confidences)
    want = np.array([0 if i % 5 == 0 or i % 7 == 3 else i / 80 for i in range(80)], dtype=np.float32)
    seen = []
    for kind in (GSimCLR, SimCLR):
        real = kind.step
        monkeypatch.setattr(kind, "step", lambda self, batch, real=real: (seen.append(batch), real(self, batch))[1])
    run("gsimclr", "a", train=ONE, labels="sure", **WEIGHED)
    assert sorted(torch.cat([batch.rows for batch in seen]).tolist()) == list(range(80))
    for batch in seen:
        assert batch.confidences.dtype == torch.float32
        np.testing.assert_array_equal(batch.confidences.numpy(), want[batch.rows.numpy()])
    seen.clear()
    run("gsimclr", "b", train=ONE, labels="sure", sampling="random", mask_negatives=True)
    run("simclr", "c", train=ONE, labels="sure")
    assert len(seen) == 10
    assert [set(batch.fields) for batch in seen] == [{"clusters"}] * 5 + [set()] * 5  # simclr sees no labels at all


def test_whole_runs_at_both_limits_and_between(digits):
    for name, value in (("certain", 1.0), ("unsure", 0.0), ("half", 0.5)):
        labelled(name, [value] * 80)
    found = {
        name: weights("gsimclr", name, train=ONE, labels=name, **WEIGHED) for name in ("certain", "unsure", "half")
    }
    assert found["certain"] == weights(
        "gsimclr", "masked", train=ONE, labels="half", sampling="random", mask_negatives=True
    )
    assert found["unsure"] == weights("gsimclr", "plain", train=ONE, labels="half", sampling="random")
    assert len(set(found.values())) == 3


def test_a_weighed_run_that_is_interrupted_ends_the_same(digits, monkeypatch):
    labelled("sure", [i / 80 for i in range(80)])
    options = {"train": ONE, "labels": "sure", "mask_negatives": True, "weigh_by_confidence": True}
    whole = run("gsimclr", "whole", **options)
    real, calls = torch.optim.SGD.step, []

    def step(self, *arguments, **keywords):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    with pytest.raises(KeyboardInterrupt):
        run("gsimclr", "resumed", **options)
    assert file_digest(run("gsimclr", "resumed", **options)) == file_digest(whole)
    assert len(calls) == 4 + 3  # it went on after the second of five steps


def test_labels_that_are_not_sure_of_anything_are_refused(digits):
    with pytest.raises(TrainingError, match=r"says how sure.*'mined', which has no confidences.*resamples"):
        run("gsimclr", "out", labels="mined", **WEIGHED)
    labelled("broken", [1.5] * 80)
    with pytest.raises(PseudoLabelError, match=r"between 0 and 1.*1.5"):
        run("gsimclr", "out", labels="broken", **WEIGHED)
    with pytest.raises(ParameterError, match=r"methods.x.weigh_by_confidence.*set mask_negatives: true"):
        parse(GSimCLRParams, {"weigh_by_confidence": True}, "methods.x")
    assert not Path("out").exists()


def test_a_field_that_a_method_does_not_declare_is_refused_by_name():
    batch = Batch([torch.zeros(2, 3, 8, 8)], torch.arange(2))
    with pytest.raises(KeyError, match="batch.clusters: it must declare 'clusters' in `needs`"):
        _ = batch.clusters
