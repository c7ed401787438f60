"""`patch_kmeans`: whitened patches, a k-means dictionary, the triangle code, quadrant pooling. No gradients.

Source: Coates, Ng, Lee, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011.

Idea: a reference that needs seconds and no labels, and that young contrastive runs do not always beat: an honest
table carries it. Steps: random patches, contrast normalisation, ZCA whitening, k-means; features are
max(0, mean distance - distance) to every centroid, averaged over the four quadrants.

Deviations: quadrant means instead of sums (a constant factor); faiss's k-means from seeded random patches.

Shape legend: N patches, p = patch side^2 * channels, K dictionary size.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from reprise.config.errors import TrainingError
from reprise.runtime.seeds import mix, numpy_rng
from stages.pretrain.method import Method
from stages.pretrain.params import MethodParams

WHITENING_EPSILON = 0.1  # added to the eigenvalues (section 3.1.2)
CHUNK = 4096  # images


class PatchKMeansParams(MethodParams):
    """patches: dictionary size K. patch_size: pixels. samples: patches to learn from. iterations: of k-means."""

    patches: Annotated[int, Field(ge=2, le=100_000)] = 256
    patch_size: Annotated[int, Field(ge=2, le=64)] = 6
    samples: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000
    iterations: Annotated[int, Field(ge=1, le=1000)] = 30


class PatchKMeans(Method):
    """Fits the dictionary of a PatchDictionary backbone."""

    Params = PatchKMeansParams
    gradient_free = True
    params: PatchKMeansParams

    @classmethod
    def own_backbone(cls, params: PatchKMeansParams) -> tuple[str, dict[str, int]]:  # type: ignore[override]
        """A patch dictionary."""
        return "patch_dictionary", {"patches": params.patches, "patch_size": params.patch_size}

    def fit(self, images: np.ndarray) -> None:
        """Learn whitening and centroids from random patches of (n, S, S, C) uint8 images.

        Raises:
            TrainingError: images smaller than a patch, or fewer patches than centroids.
        """
        patches_Np = torch.from_numpy(self._sample(images))
        backbone = self.backbone
        mean_p = patches_Np.mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.cov(patches_Np.T.double()))
        whitening_pp = (vectors @ torch.diag((values.clamp(min=0) + WHITENING_EPSILON).rsqrt()) @ vectors.T).float()
        centroids_Kp = self._kmeans((patches_Np - mean_p) @ whitening_pp)
        for name, value in {
            "whitening_mean": mean_p,
            "whitening": whitening_pp,
            "centroids": centroids_Kp,
            "input_mean": torch.tensor(self.context.mean),
            "input_std": torch.tensor(self.context.std),
        }.items():
            getattr(backbone, name).copy_(value)

    def _sample(self, images: np.ndarray) -> np.ndarray:
        """(N, p) contrast-normalised patches at random places of random images."""
        from reprise.networks.patch_dictionary import NORMALISE_EPSILON

        side, want = self.params.patch_size, self.params.samples
        n, height, width, _ = images.shape
        if min(height, width) < side:
            raise TrainingError(
                "images are smaller than a patch",
                where="methods.*.patch_size",
                found=f"{width}x{height} for patches of {side}",
                fix="Lower patch_size or raise image.size.",
            )
        rng = numpy_rng(self.context.seed, "patches")
        which, top, left = (
            rng.integers(0, n, want),
            rng.integers(0, height - side + 1, want),
            rng.integers(0, width - side + 1, want),
        )
        steps = np.arange(side)
        patches = images[which[:, None, None], top[:, None, None] + steps[:, None], left[:, None, None] + steps]
        # the order (channel, row, column) of torch's unfold
        flat = patches.transpose(0, 3, 1, 2).reshape(want, -1).astype(np.float32)
        flat -= flat.mean(axis=1, keepdims=True)
        return flat / np.sqrt(flat.var(axis=1, ddof=1, keepdims=True) + NORMALISE_EPSILON)

    def _kmeans(self, white_Np: Tensor) -> Tensor:
        import faiss

        if len(white_Np) < self.params.patches:
            raise TrainingError(
                "fewer patches than centroids",
                where="methods.*.patches",
                found=f"{len(white_Np)} for {self.params.patches}",
                fix="Raise samples or lower patches.",
            )
        kmeans = faiss.Kmeans(
            white_Np.shape[1],
            self.params.patches,
            niter=self.params.iterations,
            init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
            seed=mix(self.context.seed, "kmeans") % 2**31,
            max_points_per_centroid=len(white_Np),
            min_points_per_centroid=1,
        )
        kmeans.train(np.ascontiguousarray(white_Np.numpy()))
        return torch.from_numpy(np.array(kmeans.centroids))
