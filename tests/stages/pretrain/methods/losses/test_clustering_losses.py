"""DeepCluster-v2 and ODC: losses and k-means against loops, memories, and what happens between epochs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stages.pretrain.methods.clustering.deepcluster_v2 import assignment_loss
from stages.pretrain.methods.clustering.odc import weighted_cross_entropy
from stages.pretrain.parts.memory import Memory, nearest_centroids, spherical_kmeans
from stages.pretrain.parts.online_labels import means_of, refill
from tests.stages.pretrain.methods.conftest import build, random_batch


def cross_entropy(logits, label: int) -> float:
    exps = [math.exp(float(v)) for v in logits]
    return -math.log(exps[label] / sum(exps))


def test_assignment_loss(rng):
    z = F.normalize(torch.randn(3, 4, 5, generator=rng, dtype=torch.float64), dim=2)
    centroids = F.normalize(torch.randn(2, 6, 5, generator=rng, dtype=torch.float64), dim=2)
    labels = torch.randint(0, 6, (2, 4), generator=rng)
    want = 0.0
    for v in range(3):
        for h in range(2):
            for b in range(4):
                logits = [float(z[v, b] @ centroids[h, k]) / 0.1 for k in range(6)]
                want += cross_entropy(logits, int(labels[h, b])) / 24
    assert float(assignment_loss(z, centroids, labels, 0.1)) == pytest.approx(want, abs=1e-9)
    order = torch.tensor([2, 0, 3, 1])
    permuted = assignment_loss(z[[1, 2, 0]][:, order], centroids, labels[:, order], 0.1)
    assert float(permuted) == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("reweight", [True, False])
def test_weighted_cross_entropy(rng, reweight):
    logits = torch.randn(4, 3, generator=rng, dtype=torch.float64)
    labels, members = [0, 2, 2, 1], [8, 0, 3]
    weights = [1 / math.sqrt(m + 1) if reweight else 1.0 for m in members]
    batch = sum(weights[y] for y in labels)  # of the batch, as in the authors' code, and not of the classes
    want = sum(weights[y] * cross_entropy(row, y) for row, y in zip(logits, labels, strict=True)) / batch
    got = weighted_cross_entropy(logits, torch.tensor(labels), torch.tensor(members), reweight)
    assert float(got) == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("members", [[1000, 1], [1, 1000], [5, 5]])
def test_how_large_the_clusters_of_a_batch_are_does_not_change_the_size_of_its_loss(members):
    """All images of the batch lie in one cluster: the weights cancel, however large or small that cluster is."""
    logits = torch.tensor([[2.0, 0.0], [0.5, 0.0]])
    got = weighted_cross_entropy(logits, torch.tensor([0, 0]), torch.tensor(members), reweight=True)
    torch.testing.assert_close(got, F.cross_entropy(logits, torch.tensor([0, 0])))


def test_a_memory_mixes_and_stays_on_the_sphere():
    memory = Memory(5, 3, momentum=0.25)
    first, second = torch.randn(2, 3), torch.randn(2, 3)
    rows = torch.tensor([4, 1])
    memory.write(rows, first)
    torch.testing.assert_close(memory.vectors[rows], F.normalize(first, dim=1))  # nothing old to keep
    memory.write(rows, second)
    want = F.normalize(0.25 * F.normalize(first, dim=1) + 0.75 * F.normalize(second, dim=1), dim=1)
    torch.testing.assert_close(memory.vectors[rows], want)
    assert int(memory.written) == 4
    assert torch.equal(memory.vectors[[0, 2, 3]], torch.zeros(3, 3))


def test_spherical_kmeans_finds_separate_bundles_and_repeats_itself():
    torch.manual_seed(0)
    true = torch.arange(60) % 3
    vectors = F.normalize(torch.eye(3)[true] + 0.05 * torch.randn(60, 3), dim=1)
    found = [spherical_kmeans(vectors, 3, 10, np.random.default_rng(s)) for s in (1, 1)]
    assert torch.equal(*found)
    best = max(
        len({(int(a), int(b)) for a, b in zip(true, nearest_centroids(vectors, c), strict=True)}) == 3
        for c in (spherical_kmeans(vectors, 3, 10, np.random.default_rng(s)) for s in range(5))
    )
    assert best
    torch.testing.assert_close(found[0].norm(dim=1), torch.ones(3))


def test_one_round_of_kmeans_is_the_mean_of_the_members():
    vectors = F.normalize(torch.randn(12, 4, generator=torch.Generator().manual_seed(3)), dim=1)
    start = spherical_kmeans(vectors, 3, 0, np.random.default_rng(0))
    after = spherical_kmeans(vectors, 3, 1, np.random.default_rng(0)).numpy()
    labels = [int(np.argmax([float(v @ c) for c in start])) for v in vectors]
    for k in range(3):
        mean = sum(vectors[i].numpy().astype(float) for i in range(12) if labels[i] == k)
        np.testing.assert_allclose(after[k], mean / np.linalg.norm(mean), atol=1e-6)


def test_more_clusters_than_images_and_equal_images_stay_finite():
    same = F.normalize(torch.ones(5, 3), dim=1)
    centroids = spherical_kmeans(same, 8, 4, np.random.default_rng(0))
    assert centroids.shape == (8, 3)
    assert torch.isfinite(centroids).all()
    assert build("deepcluster_v2", images=16, prototypes=1000).centroids.shape[1] == 16
    assert len(build("odc", images=16, clusters=1000).centroids) == 8


@pytest.mark.parametrize("name", ["deepcluster_v2", "odc"])
def test_the_first_epoch_fills_the_memory_and_then_there_are_labels(name):
    method = build(name, images=16)
    losses = []
    for step in range(4):
        loss, _ = method.step(random_batch(method, seed=step, start=8 * step))
        losses.append(float(loss.detach()))
        before = method.labels.clone()
        method.after_step(step / 8)
        if step == 0:
            assert not method.centroids.any()
        if name == "deepcluster_v2" and step == 2:  # within an epoch the targets stand still
            assert torch.equal(method.labels, before)
    assert losses[:2] == [0, 0]
    assert min(losses[2:]) > 0
    torch.testing.assert_close(method.centroids.norm(dim=-1), torch.ones(method.centroids.shape[:-1]))


def test_the_clusters_of_an_epoch_are_those_of_the_memory():
    method = build("deepcluster_v2", images=16)
    for step in range(2):
        method.step(random_batch(method, seed=step, start=8 * step))
        method.after_step(step / 8)
    for head in range(2):
        want = [int(np.argmax([float(v @ c) for c in method.centroids[head]])) for v in method.memory.vectors]
        assert method.labels[head].tolist() == want
    assert not torch.equal(method.centroids[0], method.centroids[1])


def test_small_clusters_are_refilled_from_the_largest():
    torch.manual_seed(0)
    vectors = F.normalize(torch.randn(40, 4), dim=1)
    labels = torch.tensor([0] * 25 + [1] * 14 + [2])
    centroids = means_of(vectors, labels, F.normalize(torch.randn(4, 4), dim=1))
    new, moved = refill(vectors, labels, centroids, 3, torch.Generator().manual_seed(0))
    assert torch.bincount(new, minlength=4).min() >= 3
    assert len(new) == 40
    torch.testing.assert_close(moved, means_of(vectors, new, moved))
    kept, same = refill(vectors, labels % 2, centroids[:2], 3, torch.Generator().manual_seed(0))
    assert torch.equal(kept, labels % 2)
    torch.testing.assert_close(same, means_of(vectors, labels % 2, centroids[:2]))


def test_clusters_of_equal_images_cannot_be_split():
    vectors = F.normalize(torch.ones(10, 3), dim=1)
    labels = torch.zeros(10, dtype=torch.int64)
    new, centroids = refill(vectors, labels, F.normalize(torch.rand(2, 3), dim=1), 2, torch.Generator().manual_seed(0))
    assert torch.equal(new, labels)
    assert torch.isfinite(centroids).all()


def test_odc_labels_of_the_batch_follow_its_vectors():
    method = build("odc", images=16, centroid_steps=100)
    for step in range(3):
        method.step(random_batch(method, seed=step, start=8 * step))
        if step < 2:
            method.after_step(step / 8)
    want = nearest_centroids(method.memory.vectors[:8], method.centroids)
    assert torch.equal(method.labels[:8], want)
