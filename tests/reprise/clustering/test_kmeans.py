"""The one k-means: as good as scikit-learn's, on directions too, from any start; only mining depends on merging."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans as ReferenceKMeans

from reprise.clustering.centres import nearest, sums
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
