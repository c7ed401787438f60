"""The one k-means: as good as scikit-learn's, on directions too, from any start; only mining depends on merging."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as ReferenceKMeans

from reprise.clustering import centres as centres_module
from reprise.clustering.centres import nearest, sums, two_best_on_device
from reprise.clustering.kmeans import kmeans
from reprise.clustering.lloyd import lloyd
from reprise.clustering.merging import merging_kmeans
from reprise.clustering.starts import plus_plus, random_rows
from reprise.measures.unit_vectors import unit
from reprise.storage.code.fingerprint import fingerprint


@pytest.mark.parametrize(("find", "most"), [(kmeans, 1.02), (merging_kmeans, 1.01)])
def test_it_is_as_good_as_scikit_learns(find, most):
    features = np.random.default_rng(0).normal(size=(1500, 8)).astype(np.float32)
    ours = nearest(features, find(features, 30, 100, 5, np.random.default_rng(0)))
    theirs = ReferenceKMeans(30, n_init=5, random_state=0).fit(features)
    assert float(ours.squared.sum()) <= most * theirs.inertia_
    total, counts = sums(features, ours.centre, 30)
    for cluster in range(30):
        np.testing.assert_allclose(total[cluster], features[ours.centre == cluster].sum(axis=0), rtol=1e-4, atol=1e-4)
        assert counts[cluster] == (ours.centre == cluster).sum()


def test_the_best_of_several_starts_is_kept():
    features = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    rng, tried = np.random.default_rng(1), []
    for _ in range(4):
        tried.append(lloyd(features, plus_plus(features, 20, rng), 9))
    best = min(tried, key=lambda found: found[1])[0]
    assert (kmeans(features, 20, 9, 4, np.random.default_rng(1)) == best).all()


def test_on_directions_centres_are_the_directions_of_sums():
    """Against the definition: one move from random rows, by loops in float64."""
    features = unit(np.random.default_rng(0).normal(size=(40, 4)), np.float32)
    rng = np.random.default_rng(2)
    first = random_rows(features, 3, rng)
    found = kmeans(features, 3, 1, 1, np.random.default_rng(2), spherical=True, start=random_rows)
    labels = [int(np.argmax([float(row @ centre) for centre in first])) for row in features]
    for k in range(3):
        total = sum(features[i].astype(float) for i in range(40) if labels[i] == k)
        np.testing.assert_allclose(found[k], total / np.linalg.norm(total), atol=1e-6)


def test_random_rows_differ_and_come_again_only_where_they_are_too_few():
    features = np.arange(5, dtype=np.float32)[:, None]
    few, many = (random_rows(features, K, np.random.default_rng(0)) for K in (5, 12))
    assert sorted(few.ravel()) == [0, 1, 2, 3, 4]
    counts = np.unique(many, return_counts=True)[1]
    assert (counts.min(), counts.max(), len(many)) == (2, 3, 12)


def test_an_empty_cluster_moves_to_the_farthest_image():
    features = np.array([[0.0], [1.0], [2.0], [50.0]], dtype=np.float32)
    centres, _ = lloyd(features, np.array([[1.0], [1000.0]], dtype=np.float32), 10)
    assert sorted(centres.ravel().tolist()) == [1.0, 50.0]


def test_only_mining_depends_on_merging(repository: Path):
    """So that a change of merging.py reruns no probe and no pretraining."""
    merging, entry = "reprise/clustering/merging.py", "reprise/clustering/kmeans.py"
    for folder, name in (("stages/probe/probes", "clusters"), ("stages/pretrain/methods", "patch_kmeans")):
        (file,) = (repository / folder).rglob(f"{name}.py")
        code = fingerprint([".".join(file.relative_to(repository).with_suffix("").parts)])
        assert entry in code
        assert merging not in code
    assert merging in fingerprint(["stages.mine.miners.kmeans"])


def ties(K: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Rows on borders of float32 and of float64, and centres of which some are equal."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(K, 16)).astype(np.float32)
    centres[7] = centres[3]
    between = (centres[:-1] + centres[1:]) / 2
    near = between + (1e-7 * rng.normal(size=between.shape)).astype(np.float32)
    return np.concatenate([between, near, centres, rng.normal(size=(500, 16)).astype(np.float32)]), centres


@pytest.mark.parametrize("K", [1, 2, 40])
def test_what_runs_on_a_device_finds_what_the_cpu_finds(monkeypatch, K):
    """torch's reductions, which only a GPU takes, on the CPU: any of equal scores may come first."""
    rows, centres = ties()
    want = nearest(rows, centres[:K])
    moved = kmeans(rows, 30, 20, 2, np.random.default_rng(1), device="cpu")
    used: list[int] = []

    def on_device(score):
        used.append(1)
        best, top, other, following = two_best_on_device(score)
        tied = top == following  # a GPU gives any of them first
        return np.where(tied, other, best), top, np.where(tied, best, other), following

    monkeypatch.setattr(centres_module, "two_best", on_device)
    found = nearest(rows, centres[:K])
    assert used
    assert (found.centre == want.centre).all()
    assert (found.squared == want.squared).all()
    assert (found.second == want.second).all()
    assert (kmeans(rows, 30, 20, 2, np.random.default_rng(1), device="cpu") == moved).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_what_the_cpu_finds():
    rows, centres = ties()
    found, want = (nearest(rows, centres, device) for device in ("cuda", "cpu"))
    assert (found.centre == want.centre).all()
    assert (found.squared == want.squared).all()
    assert (found.second == want.second).all()
    features = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
    on_gpu, on_cpu = (kmeans(features, 200, 20, 1, np.random.default_rng(1), device=d) for d in ("cuda", "cpu"))
    objective = [float(nearest(features, c, "cpu").squared.sum(dtype=np.float64)) for c in (on_gpu, on_cpu)]
    assert objective[0] == pytest.approx(objective[1], rel=2e-3)  # a CPU may make early moves on 8-bit integers
