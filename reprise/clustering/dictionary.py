"""The dictionary of a PatchDictionary (reprise/networks/patch_dictionary.py): whitening and centroids of image patches.

Source: Coates, Ng, Lee, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011,
sections 3 and 4: random patches, contrast normalisation, ZCA whitening, k-means.

Legend: n images, S their side, C channels, P side of a patch, p = P * P * C, N patches, K centroids.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reprise.clustering.kmeans import kmeans
from reprise.networks.patch_dictionary import NORMALISE_EPSILON, PatchDictionary

WHITENING_EPSILON = 0.1  # added to the eigenvalues (section 3.1.2)


def learn_dictionary(
    network: PatchDictionary, images: np.ndarray, samples: int, iterations: int, rng: np.random.Generator
) -> None:
    """Fill the network's whitening and centroids from random patches of images; its input statistics stay.

    Args:
        network: says the side of a patch and K.
        images: (n, S, S, C) uint8, S at least P.
        samples: N, at least K.
        iterations: moves of k-means.
        rng: draws the patches, then the first centroids.
    """
    patches_Np = torch.from_numpy(sample_patches(images, network.patch_size, samples, rng))
    mean_p, whitening_pp = zca(patches_Np)
    white_Np = ((patches_Np - mean_p) @ whitening_pp).numpy()
    network.whitening_mean.copy_(mean_p)
    network.whitening.copy_(whitening_pp)
    network.centroids.copy_(torch.from_numpy(kmeans(white_Np, len(network.centroids), iterations, 1, rng)))


def sample_patches(images: np.ndarray, side: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Cut patches at random places of random images and normalise their contrast: (N, p) float32.

    Args:
        images: (n, S, S, C) uint8.
        side: P.
        samples: N.
        rng: draws images, then rows, then columns.
    """
    n, height, width, _ = images.shape
    which, top, left = (rng.integers(0, limit, samples) for limit in (n, height - side + 1, width - side + 1))
    steps = np.arange(side)
    patches = np.empty((samples, side, side, images.shape[3]), np.uint8)
    # Image by image, each read once: the images may lie on disk.
    by_image = np.argsort(which, kind="stable")
    for chosen in np.split(by_image, np.flatnonzero(np.diff(which[by_image])) + 1):
        rows, columns = top[chosen, None, None] + steps[:, None], left[chosen, None, None] + steps
        patches[chosen] = images[int(which[chosen[0]])][rows, columns]
    # the order (channel, row, column) of torch's unfold, by which the network cuts
    flat = patches.transpose(0, 3, 1, 2).reshape(samples, -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.sqrt(flat.var(axis=1, ddof=1, keepdims=True) + NORMALISE_EPSILON))


def zca(patches_Np: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean (p,) and the ZCA whitening matrix (p, p) of patches, float32; the eigenvalues in float64."""
    values, vectors = torch.linalg.eigh(torch.cov(patches_Np.T.double()))
    scale = (values.clamp(min=0) + WHITENING_EPSILON).rsqrt()
    return patches_Np.mean(dim=0), (vectors @ torch.diag(scale) @ vectors.T).float()
