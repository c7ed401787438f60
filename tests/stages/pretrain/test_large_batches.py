"""Batches that do not fit into memory: which gradient a run gets, what it says about that, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reprise.artifacts.weights.backbones import read_config, read_weights
from reprise.config.errors import TrainingError
from reprise.config.plug_ins.registry import load_class, names
from reprise.config.tables import RunRow
from reprise.networks.memory.recompute import in_chunks
from reprise.runtime.device import Compute
from reprise.storage.work_folder import file_digest
from reprise.training.optimization.gradients import accelerated
from stages.pretrain.inputs.images import refuse_batches, refuse_passes
from stages.pretrain.method import Batch, Method
from stages.pretrain.run import passes
from tests.stages.pretrain.conftest import TINY
from tests.stages.pretrain.methods.conftest import build, random_batch, without_batch_statistics
from tests.stages.pretrain.test_run import run

CHUNKABLE = [
    name
    for name in names("methods")
    if not (kind := load_class("methods", name, Method, "")).gradient_free and kind.chunkable
]
SET = {"accumulate": 2, "chunk_size": 5, "activation_checkpointing": True}


def gradients(method: Method, chunk: int | None) -> dict[str, torch.Tensor]:
    """Gradients of the third step, so that queues and memories are filled, after two in whole batches."""
    for number in range(3):
        method.zero_grad()
        torch.manual_seed(number)
        batch = random_batch(method, 16, seed=number, start=16 * number)
        if number == 2 and chunk:
            with in_chunks(method.embedding_networks(), chunk):
                method.step(batch)[0].backward()
        else:
            method.step(batch)[0].backward()
        method.after_step((number + 1) / 8)
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", CHUNKABLE)
def test_every_method_gets_the_gradient_of_its_whole_batch(name: str) -> None:
    """Queues, memories, teachers and batch normalisation in heads see what they see without chunks."""
    whole, chunked = (
        gradients(without_batch_statistics(build(name, images=32)), chunk)  # clusterings begin before the third step
        for chunk in (None, 5)
    )
    assert whole.keys() == chunked.keys()
    length = torch.stack([g.norm() for g in whole.values()]).norm()
    apart = torch.stack([(chunked[n] - g).norm() for n, g in whole.items()]).norm()
    assert length > 0
    assert apart < 1e-4 * length


def test_blocks_computed_twice_leave_the_bytes_of_a_run(digits: Path) -> None:
    plain = run("simclr", "plain")
    again = run("simclr", "again", activation_checkpointing=True)
    assert file_digest(plain / "backbone.safetensors") == file_digest(again / "backbone.safetensors")
    assert file_digest(plain / "history.csv") == file_digest(again / "history.csv")
    written = read_config(plain)["parameters"]
    assert not set(SET) & ({*written["train"]} | {*written["method"]})  # the defaults leave no trace
    assert read_config(again)["parameters"]["train"]["activation_checkpointing"] is True
    assert read_config(again)["notes"] == read_config(plain)["notes"] == []


def test_a_chunked_run_learns_what_a_whole_one_does(digits: Path) -> None:
    train = TINY.model_copy(update={"backbone": "vit_mini", "epochs": 1, "precision": "fp32"})
    whole, chunked = run("byol", "whole", train), run("byol", "chunked", train, chunk_size=5)
    assert read_config(whole)["notes"] == read_config(chunked)["notes"]  # no batch normalisation to speak of
    (first, _), (second, _) = read_weights(whole), read_weights(chunked)
    for name, value in first.items():
        torch.testing.assert_close(torch.from_numpy(second[name]), torch.from_numpy(value), rtol=1e-3, atol=1e-5)


def test_an_interrupted_run_resumes_exactly_and_says_what_it_compared(digits: Path, monkeypatch, capsys) -> None:
    train = TINY.model_copy(update={"precision": "bf16", "epochs": 2})
    whole = run("simclr", "whole", train, **SET)
    calls: list[int] = []
    real = torch.optim.SGD.step

    def step(self, *arguments, **keywords):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", step)
        with pytest.raises(KeyboardInterrupt):
            run("simclr", "resumed", train, **SET)
    assert file_digest(run("simclr", "resumed", train, **SET)) == file_digest(whole)
    cut, statistics = read_config(whole)["notes"]
    assert "each batch of 16 images is cut into 2 micro-batches of at most 8" in cut
    assert "it compares within 8 images" in cut
    assert "sees at most 5 views at a time" in statistics
    assert f"note: pretrain simclr seed 0: {cut}" in capsys.readouterr().err


def test_a_method_that_passes_its_backbone_by_is_told() -> None:
    method = build("simclr")
    with passes(method, TINY.model_copy(update={"chunk_size": 4})) as notes:
        method.backbone.forward(torch.randn(2, 3, 8, 8)).sum().backward()
        assert method.step(random_batch(method))[0] > 0
    assert notes == []
    with passes(method, TINY.model_copy(update={"chunk_size": 4})) as notes:
        method.backbone.convolution(torch.randn(2, 3, 8, 8)).sum().backward()
    assert "`chunk_size` had no effect" in notes[0]


def test_what_cannot_be_passed_so_is_refused() -> None:
    row = RunRow(name="a", method="simmim", labels="none")
    with pytest.raises(TrainingError, match=r"simmim' passes parts of images.*train.chunk_size.*methods\.a"):
        refuse_passes(row, build("simmim"), TINY.model_copy(update={"chunk_size": 4}))
    refuse_passes(row, build("simmim"), TINY.model_copy(update={"activation_checkpointing": True}))
    row = RunRow(name="a", method="simclr", labels="none")
    refuse_passes(row, build("simclr"), TINY.model_copy(update={"chunk_size": 4}))
    with pytest.raises(TrainingError, match=r"no sequence of blocks.*TinyBackbone"):
        refuse_passes(row, build("simclr"), TINY.model_copy(update={"activation_checkpointing": True}))
    refuse_batches(row, build("byol"), 80, 16, accumulate=8)
    with pytest.raises(TrainingError, match=r"at least 2 images in every micro-batch.*16 images in 9 micro-batches"):
        refuse_batches(row, build("byol"), 80, 16, accumulate=9)
    with pytest.raises(TrainingError, match=r"at least 1 images in every micro-batch"):
        refuse_batches(row, build("simclr"), 80, 16, accumulate=17)


def test_a_step_that_computes_twice_is_neither_compiled_nor_recorded() -> None:
    gpu = Compute("cuda", "bf16", 1)
    assert accelerated("on", "auto", gpu, capturable=True).graph
    found = accelerated("on", "auto", gpu, capturable=True, recomputes=True)
    assert (found.compile, found.graph) == (False, False)
    assert [note.split(":")[0] for note in found.notes] == [
        "the step is not compiled",
        "the step is not recorded as a CUDA graph",
    ]
    assert accelerated("auto", "auto", Compute("cpu", "fp32", 1), capturable=True, recomputes=True).notes == ()


def test_views_rows_and_fields_are_cut_together() -> None:
    """Each micro-batch holds the views, the positions and the clusters of the same images."""
    from reprise.training.batches import backward

    seen: list[Batch] = []
    weight = torch.ones((), requires_grad=True)

    def step(batch: Batch):
        seen.append(batch)
        return weight * batch.views[0].mean(), {}

    batch = random_batch(build("supcon"), 7)
    backward(step, batch, 3)
    assert [len(part.rows) for part in seen] == [2, 2, 3]
    assert torch.equal(torch.cat([part.clusters for part in seen]), batch.clusters)
    assert torch.equal(torch.cat([part.views[1] for part in seen]), batch.views[1])
