"""`detcon`: its pooling and loss restated with loops, objects that are not seen, and a run that reads masks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import read_config
from reprise.config.errors import TrainingError
from reprise.config.facts import Fact
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import RunRow
from reprise.storage.work_folder import file_digest
from stages.pretrain.inputs.masks import read_run_masks
from stages.pretrain.method import Batch, Method
from stages.pretrain.parts.regions import pooled_regions
from stages.pretrain.run import pretrain
from tests.known_facts import write_facts_of_run, write_known_facts
from tests.stages.pretrain.conftest import IMAGE, TINY
from tests.stages.pretrain.methods.conftest import SMALL, build, random_batch


def test_local_features_are_averaged_over_each_object(rng: torch.Generator) -> None:
    places, mask = torch.randn(2, 5, 4, 4, generator=rng), torch.randint(0, 3, (2, 8, 8), generator=rng)
    mask[1] = 1
    means, share = pooled_regions(places, mask, 3)
    for image in range(2):
        for number in range(3):
            total, weight = torch.zeros(5), 0.0
            for down in range(8):
                for across in range(8):
                    if mask[image, down, across] == number:
                        total += places[image, :, down // 2, across // 2]
                        weight += 1.0
            assert share[image, number] == pytest.approx(weight / 64)
            expected = total / weight if weight else torch.zeros(5)
            torch.testing.assert_close(means[image, number], expected, rtol=1e-5, atol=1e-6)


def test_the_loss_compares_every_object_of_both_views_with_all_others() -> None:
    method = build("detcon", temperature=0.3, smallest=0.1)
    batch = random_batch(method)
    for view in batch.mask("mask"):
        view[0][view[0] == 2] = 0  # the first image has two objects
    batch.mask("mask")[1][3][:] = 1  # of the fourth image both views show no more than object 1
    loss, figures = method.step(batch)
    vectors: dict[tuple[int, int, int], torch.Tensor] = {}
    for view, (pixels, mask) in enumerate(zip(batch.views, batch.mask("mask"), strict=True)):
        places = method.backbone.forward_features(pixels)
        for image in range(batch.images):
            for number in range(3):
                chosen = mask[image] == number
                if chosen.float().mean() >= 0.1:
                    vectors[view, image, number] = places[image][:, chosen].mean(dim=1)
    both = sorted((i, r) for v, i, r in vectors if v == 0 and (1, i, r) in vectors)
    assert len(both) == 8 * 3 - 1 - 2
    rows = method.projector(torch.stack([vectors[v, i, r] for v in (0, 1) for i, r in both])).detach()
    rows = rows / rows.norm(dim=1, keepdim=True)
    n, terms = len(both), []
    for i in range(2 * n):
        similarity = [float(rows[i] @ rows[k]) / 0.3 for k in range(2 * n)]
        others = sum(math.exp(similarity[k]) for k in range(2 * n) if k != i)
        terms.append(math.log(others) - similarity[(i + n) % (2 * n)])
    assert float(loss.detach()) == pytest.approx(sum(terms) / len(terms), rel=1e-4)
    assert figures["features"].shape == (8, 12)


def test_a_batch_in_which_no_object_is_seen_twice_teaches_nothing() -> None:
    method = build("detcon")
    batch = random_batch(method)
    apart = [torch.zeros_like(batch.mask("mask")[0]), torch.ones_like(batch.mask("mask")[1])]
    loss, _ = method.step(replace(batch, masks={"mask": apart}))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(p.grad is None or not p.grad.any() for p in method.parameters())


def test_micro_batches_hold_their_own_masks() -> None:
    method = build("detcon")
    batch = random_batch(method, size=6)
    parts = [batch.part(number, 2) for number in range(2)]
    for view in range(2):
        assert torch.equal(torch.cat([part.mask("mask")[view] for part in parts]), batch.mask("mask")[view])


def test_a_mask_that_was_not_declared_is_a_defect_of_the_method() -> None:
    with pytest.raises(KeyError, match="must declare 'mask' in `reads`"):
        Batch([], torch.arange(2)).mask("mask")


DECLARED = (Fact("mask", "mask", "given"), Fact("other", "mask"))


def test_a_run_reads_masks_and_its_bytes_follow_from_them(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other masks give other weights; tests/stages/pretrain/test_run.py holds it against labels."""
    kind, made = load_class("methods", "detcon", Method, "runs"), []
    one = TINY.model_copy(update={"epochs": 1, "warmup_epochs": 0})
    row = RunRow(name="detcon", method="detcon", labels="none")
    for out, given in (("a", 0), ("b", 1)):
        write_known_facts(declared=DECLARED, given_seed=given)
        write_facts_of_run("detcon", kind.reads)
        pretrain(row, 0, IMAGE, one, kind.Params(**SMALL["detcon"]), Path(out), restart=True)
        made.append(file_digest(f"{out}/backbone.safetensors"))
    assert made[0] != made[1]
    assert read_config(Path("a"))["reads"] == ["mask"]


def test_masks_that_are_missing_or_hidden_are_refused(digits: Path) -> None:
    write_known_facts(declared=DECLARED)
    write_facts_of_run("detcon", ["mask"])
    shards = Shards.open()
    keys, row = shards.keys[shards.rows("train")], RunRow(name="detcon", method="detcon", labels="none")
    found = read_run_masks(row, ("mask",), keys, 100)
    assert found is not None
    assert found.read(3, "mask").shape == (8, 8)
    assert np.array_equal(found.read(3, "mask"), found.read(3, "mask"))
    with pytest.raises(TrainingError, match="some have none") as error:
        read_run_masks(row, ("mask",), np.array([*keys[:4], "0" * 24], dtype=object), 100)
    assert "1 of 5 images without one" in str(error.value)
