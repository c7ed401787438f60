"""InterCLR: the loss against a loop, what is drawn, labels online and mined."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from stages.pretrain.methods.clustering.interclr import (
    draw_positives,
    draw_semi_hard,
    drawn,
    inter_image_loss,
)
from stages.pretrain.parts.memory import nearest_centroids
from tests.stages.pretrain.methods.conftest import build, random_batch


@pytest.mark.parametrize("margin", [-0.5, 0.0, 0.3])
def test_the_contrast_between_images_equals_a_loop(rng: torch.Generator, margin: float) -> None:
    """A margin of -0.5 raises the positive's cosine by 0.5; a query without negatives adds 0 to the mean."""
    queries = F.normalize(torch.randn(4, 6, generator=rng, dtype=torch.float64), dim=1)
    bank = F.normalize(torch.randn(9, 6, generator=rng, dtype=torch.float64), dim=1)
    positives = torch.tensor([3, 0, 8, 8])
    negatives = torch.randint(0, 9, (4, 5), generator=rng)
    present = torch.tensor([True, True, False, True])
    want = 0.0
    for i in range(4):
        up = math.exp((float(queries[i] @ bank[positives[i]]) - margin) / 0.2)
        down = sum(math.exp(float(queries[i] @ bank[n]) / 0.2) for n in negatives[i]) if present[i] else 0.0
        want -= math.log(up / (up + down)) / 4
    found = inter_image_loss(queries @ bank.T, positives, negatives, present, margin, 0.2)
    assert float(found) == pytest.approx(want, abs=1e-9)


def test_a_draw_takes_allowed_columns_alone_and_all_alike(rng: torch.Generator) -> None:
    allowed = torch.tensor([[False, True, False, True, True, False], [True, False, False, False, False, False]])
    columns = drawn(allowed, torch.rand((2, 30_000), generator=rng, dtype=torch.float64))
    assert allowed.gather(1, columns).all()
    shares = torch.bincount(columns[0], minlength=6) / 30_000
    torch.testing.assert_close(shares, torch.tensor([0, 1, 0, 1, 1, 0]) / 3, atol=0.01, rtol=0)
    edge = torch.full((2, 1), 1 - 2**-53, dtype=torch.float64)  # the largest number that is drawn
    assert drawn(allowed, edge)[:, 0].tolist() == [4, 0]


def test_no_negative_has_the_anchors_label_and_each_lies_in_the_pool(rng: torch.Generator) -> None:
    similarity = torch.randn(12, 200, generator=rng)
    labels = torch.randint(0, 5, (200,), generator=rng)
    own = torch.randint(0, 5, (12,), generator=rng)
    negatives, present = draw_semi_hard(similarity, labels, own, 20, torch.rand((12, 50), generator=rng))
    assert present.all()
    for i in range(12):
        pool = sorted(range(200), key=lambda k: -float(similarity[i, k]))[:20]
        assert set(negatives[i].tolist()) <= {k for k in pool if labels[k] != own[i]}
        assert len(set(negatives[i].tolist())) > 1


def test_an_image_without_a_label_is_no_negative(rng: torch.Generator) -> None:
    similarity, own = torch.randn(2, 40, generator=rng), torch.tensor([0, 1])
    labels = torch.tensor([-1, 0, 1, -1]).repeat(10)
    negatives, present = draw_semi_hard(similarity, labels, own, 40, torch.rand((2, 200), generator=rng))
    assert present.all()
    assert [set(labels[row].tolist()) for row in negatives] == [{1}, {0}]
    labels[labels == 1] = -1
    assert draw_semi_hard(similarity, labels, own, 40, torch.rand(2, 4))[1].tolist() == [False, True]


def test_a_pool_of_one_label_ends_without_negatives(rng: torch.Generator) -> None:
    """The published loop draws anew until it finds another label, which never happens here."""
    similarity = torch.randn(3, 40, generator=rng)
    negatives, present = draw_semi_hard(
        similarity, torch.zeros(40).long(), torch.tensor([0, 0, 1]), 8, torch.rand(3, 4)
    )
    assert present.tolist() == [False, False, True]
    loss = inter_image_loss(similarity[:2], torch.tensor([1, 2]), negatives[:2], present[:2], -0.5, 0.2)
    assert float(loss) == 0.0


def test_a_positive_is_another_image_of_the_label_unless_there_is_none(rng: torch.Generator) -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    rows = torch.arange(6).repeat(500)
    found = draw_positives(labels, rows, torch.rand((3000, 1), generator=rng, dtype=torch.float64))
    pairs = set(zip(rows.tolist(), found.tolist(), strict=True))
    assert pairs == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (3, 3), (4, 5), (5, 4)}


def test_labels_begin_with_the_whole_bank_and_follow_its_keys() -> None:
    method = build("interclr", images=16, centroid_steps=100)
    plain = build("moco_v2", images=16, momentum=0.999, momentum_end=0.999)
    for step in range(3):
        batch = random_batch(method, seed=step, start=8 * step)
        loss = float(method.step(batch)[0].detach())
        alone = float(plain.step(batch)[0].detach())
        assert (loss == alone) == (step < 2)  # the same networks: the first epoch is MoCo v2's
        if step < 2:
            assert (method.labels == -1).all()
            method.after_step(step / 8)
            plain.after_step(step / 8)
    want = nearest_centroids(method.bank.vectors[:8], method.centroids)
    assert torch.equal(method.labels[:8], want)
    assert (method.labels >= 0).all()
    torch.testing.assert_close(method.bank.vectors.norm(dim=1), torch.ones(16))


def test_mined_labels_stay_as_they_are_and_images_without_one_are_no_anchors() -> None:
    method = build("interclr", images=16, labels="mined")
    assert method.needs == ("clusters",)
    assert not hasattr(method, "centroids")
    for step in range(3):
        batch = random_batch(method, seed=step, start=8 * step)
        batch.clusters[2] = -1
        method.step(batch)
        method.after_step(step / 8)
        assert method.labels[batch.rows].tolist() == batch.clusters.tolist()
    batch.clusters.fill_(-1)
    loss, _ = method.step(batch)
    loss.backward()
    assert torch.isfinite(loss)


def test_sizes_follow_the_number_of_images() -> None:
    method = build("interclr", images=2000, clusters=None)
    assert len(method.centroids) == 16
    assert method.smallest == 20
    assert len(build("interclr", images=64, clusters=40, smallest=1).centroids) == 32
    (note,) = [n for n in build("interclr", images=64, clusters=40, smallest=1).notes if "clusters" in n]
    assert note == "`clusters` is 32 instead of 40: that is half of the training images."
