"""SimLAP: the loss against loops over eight fixed vectors, the gate, partner classes, and labels that are not mined."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from reprise.config.errors import TrainingError
from stages.pretrain.methods.contrastive.simlap import SimLAP, pair_loss
from tests.stages.pretrain.conftest import write_label_set
from tests.stages.pretrain.methods.conftest import build, random_batch

FIXED = torch.tensor(  # eight vectors: four images in two views
    [
        [[1.0, 0.5, -0.2], [0.3, -1.0, 0.8], [-0.7, 0.2, 0.4], [0.1, 0.9, -1.1]],
        [[0.8, 0.6, -0.1], [0.2, -0.7, 1.0], [-0.9, 0.1, 0.3], [0.4, 0.5, -0.6]],
    ],
    dtype=torch.float64,
)


def unit(vector: torch.Tensor) -> list[float]:
    length = math.sqrt(sum(float(x) ** 2 for x in vector))
    return [float(x) / length for x in vector]


@pytest.mark.parametrize("partner", [[1, 0, 2, 0], [0, 0, 1, 2], [2, 2, 2, 2]])
def test_the_loss_on_eight_fixed_vectors_equals_a_loop(rng: torch.Generator, partner: list[int]) -> None:
    first, second = FIXED
    own, gate = [0, 0, 1, 2], torch.rand(4, 3, generator=rng, dtype=torch.float64)
    total, positives = 0.0, 0
    for i in range(4):
        score = [
            7.0 * sum(float(gate[i, k]) ** 2 * unit(first[i])[k] * unit(second[j])[k] for k in range(3))
            for j in range(4)
        ]
        negatives = sum(math.exp(score[n]) for n in range(4) if own[n] not in (own[i], partner[i]))
        for p in range(4):
            if own[p] == partner[i]:
                total += math.log(math.exp(score[p]) + negatives) - score[p]
                positives += 1
    found = pair_loss(first, second, gate, torch.tensor(7.0).double(), torch.tensor(own), torch.tensor(partner))
    assert float(found) == pytest.approx(total / positives, abs=1e-6)


def test_without_negatives_the_loss_and_its_gradient_are_zero() -> None:
    first = FIXED[0].clone().requires_grad_()
    same = torch.zeros(4, dtype=torch.int64)
    loss = pair_loss(first, FIXED[1], torch.ones(4, 3).double(), torch.tensor(10.0).double(), same, same)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(first.grad, torch.zeros_like(first))


def test_a_closed_gate_hides_its_dimension() -> None:
    gate = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64).expand(4, 3)
    own, partner, scale = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 2, 3, 0]), torch.tensor(5.0).double()
    directions = torch.nn.functional.normalize(FIXED, dim=2)
    other = directions.clone()
    other[1, :, 1] = 0.0  # what the gate hides; lengths are kept, so the vectors are given as unit ones
    kept = 5.0 * (directions[0] * gate) @ other[1].T
    positive = partner[:, None] == own
    negative = (own[:, None] != own) & ~positive
    each = torch.log(kept.exp() + (kept.exp() * negative).sum(1, keepdim=True)) - kept
    want = float(each[positive].mean())
    assert float(pair_loss(FIXED[0], FIXED[1], gate, scale, own, partner)) == pytest.approx(want, abs=1e-9)


def test_gates_depend_on_both_classes_and_not_on_their_order() -> None:
    gate = build("simlap").gate.eval()
    a, b = torch.tensor([0, 1, 2]), torch.tensor([1, 0, 3])
    found = gate(a, b)
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], found[2])
    assert ((found > 0) & (found < 1)).all()


def test_partner_classes() -> None:
    own = torch.tensor([0, 1, 2, 3, 0, 1])
    arbitrary = build("simlap", images=16)
    drawn = []
    for step in range(20):
        arbitrary.steps.fill_(step)
        partner = arbitrary._partners(own)
        assert sorted(partner.tolist()) == sorted(own.tolist())  # a permutation of the batch
        drawn.append(tuple(partner.tolist()))
    assert len(set(drawn)) > 5
    arbitrary.steps.fill_(3)
    assert tuple(arbitrary._partners(own).tolist()) == drawn[3]
    assert (build("simlap", pairs="distinct")._partners(own) != own).all()
    assert torch.equal(build("simlap", pairs="identical")._partners(own), own)


def test_images_without_a_cluster_take_no_part() -> None:
    method = build("simlap", images=16)
    batch = random_batch(method)
    batch.clusters[3:] = -1
    loss, figures = method.step(batch)
    loss.backward()
    assert {"gate_open", "gate_entropy", "scale", "features", "projections"} == set(figures)
    batch.clusters[1:] = -1
    loss, _ = method.step(batch)
    assert float(loss.detach()) == 0.0


def test_the_scale_stays_in_its_bound_and_can_leave_it_again() -> None:
    """After every step it is at most 100, and has a gradient there."""
    method = build("simlap", images=16)
    assert float(method.step(random_batch(method))[1]["scale"]) == pytest.approx(10.0)
    with torch.no_grad():
        method.log_scale.fill_(20.0)
    method.after_step(0.5)
    loss, figures = method.step(random_batch(method))
    assert float(figures["scale"]) == pytest.approx(100.0, rel=1e-6)
    loss.backward()
    assert method.log_scale.grad is not None
    assert float(method.log_scale.grad) != 0.0
    assert float(build("simlap", temperature=0.01).log_scale.detach().exp()) == pytest.approx(100.0, rel=1e-6)
    with pytest.raises(ValidationError, match=r"greater than or equal to 0\.01"):
        build("simlap", temperature=0.005)


def test_a_distinct_class_needs_two_clusters() -> None:
    method = build("simlap")
    one = replace(method.context, clusters=1)
    with pytest.raises(TrainingError, match=r"at least two clusters.*Found: 1 .*Choose `arbitrary`"):
        SimLAP(method.backbone, SimLAP.Params(pairs="distinct"), one)
    for pairs in ("arbitrary", "identical"):
        SimLAP(method.backbone, SimLAP.Params(pairs=pairs), one)


def test_the_truth_is_refused_and_mined_labels_are_noted(digits) -> None:
    from reprise.artifacts.shards import Shards
    from tests.stages.pretrain.test_run import run

    keys = Shards.open().keys[Shards.open().rows("train")]
    write_label_set("truth", keys, [i % 4 for i in range(len(keys))])
    with pytest.raises(TrainingError, match=r"'simlap' is for mined labels.*'truth'"):
        run("simlap", "out", labels="truth")
    assert any("mined and not given" in note for note in build("simlap").notes)
