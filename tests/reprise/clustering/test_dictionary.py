"""The dictionary of patches: patches as the network cuts them, whitening by its definition, centroids of k-means."""

from __future__ import annotations

import numpy as np
import torch

from reprise.clustering.centres import nearest
from reprise.clustering.dictionary import WHITENING_EPSILON, learn_dictionary, sample_patches, zca
from reprise.networks.patch_dictionary import PatchDictionary


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 9, 9, 2)).astype(np.uint8)


def test_patches_are_those_that_the_network_cuts() -> None:
    sampled = sample_patches(images(), 4, 300, np.random.default_rng(1))
    network = PatchDictionary(8, 4, 2)
    cut = network.patches(torch.from_numpy(images()).permute(0, 3, 1, 2).float() / 255).flatten(0, 1).numpy()
    apart = ((sampled[:, None] - cut[None]) ** 2).sum(axis=2).min(axis=1)
    assert apart.max() < 1e-6
    assert len(np.unique(sampled, axis=0)) > 200


def test_whitened_patches_are_uncorrelated() -> None:
    """By the definition: the covariance W C W of whitened patches has the eigenvalues v / (v + epsilon)."""
    patches = torch.from_numpy(sample_patches(images(), 3, 5000, np.random.default_rng(1)))
    mean, whitening = zca(patches)
    np.testing.assert_allclose(mean, patches.numpy().astype(float).mean(axis=0), atol=1e-5)
    assert torch.equal(whitening, whitening.T) or torch.allclose(whitening, whitening.T, atol=1e-6)
    values = np.linalg.eigvalsh(np.cov(patches.numpy().T.astype(float)))
    white = ((patches - mean) @ whitening).numpy()
    found = np.linalg.eigvalsh(np.cov(white.T.astype(float)))
    np.testing.assert_allclose(found, np.sort(values / (values + WHITENING_EPSILON)), atol=1e-4)


def test_the_network_gets_centroids_that_no_move_improves_and_its_statistics_stay() -> None:
    network = PatchDictionary(8, 4, 2)
    network.input_mean.fill_(0.25)
    learn_dictionary(network, images(), 2000, 200, np.random.default_rng(1))
    patches = torch.from_numpy(sample_patches(images(), 4, 2000, np.random.default_rng(1)))
    white = ((patches - network.whitening_mean) @ network.whitening).numpy()
    centroids = network.centroids.numpy()
    label = nearest(white, centroids).centre
    means = np.stack([white[label == k].mean(axis=0) for k in range(8)])
    np.testing.assert_allclose(centroids, means, atol=1e-4)
    assert (network.input_mean == 0.25).all()
    again = PatchDictionary(8, 4, 2)
    learn_dictionary(again, images(), 2000, 200, np.random.default_rng(1))
    assert torch.equal(again.centroids, network.centroids)
