"""`patch_kmeans`: whitened patches, a k-means dictionary, the triangle code, quadrant pooling. No gradients.

Source: Coates, Ng, Lee, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011.

Idea: a reference that needs seconds and no labels, and that young contrastive runs do not always beat: an honest
table carries it. Steps: random patches, contrast normalisation, ZCA whitening, k-means
(reprise/clustering/dictionary.py); features are max(0, mean distance - distance) to every centroid, averaged over the
four quadrants (reprise/networks/patch_dictionary.py).

Deviations: images larger than `side` are scaled down to it; quadrant means instead of sums (a constant factor); k-means
starts from k-means++ patches.

Shape legend: n images, S their side, C channels, K centroids.

Checked by: tests/stages/pretrain/test_run.py; docs/measurements/results.md; docs/explanation/g-simclr.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field

from reprise.config.errors import TrainingError
from reprise.config.params import meaning
from reprise.reading.reduced import REDUCED_SIDE, reduced
from reprise.runtime.seeds import numpy_rng
from stages.pretrain.method import Method
from stages.pretrain.params import MethodParams

if TYPE_CHECKING:
    from reprise.networks.patch_dictionary import PatchDictionary


class PatchKMeansParams(MethodParams):
    """Parameters of `patch_kmeans`."""

    patches: Annotated[
        int, Field(ge=2, le=100_000), meaning("The dictionary has this many patches (K).", "patches")
    ] = 256
    patch_size: Annotated[int, Field(ge=2, le=64), meaning("Patches are squares of this side.", "pixels")] = 6
    samples: Annotated[
        int, Field(ge=100, le=10_000_000), meaning("The dictionary is learned from this many patches.", "patches")
    ] = 100_000
    iterations: Annotated[
        int, Field(ge=1, le=1000), meaning("K-means takes at most this many iterations.", "iterations")
    ] = 30
    side: Annotated[
        int, Field(ge=2, le=1024), meaning("Larger images are scaled down to this side first.", "pixels")
    ] = REDUCED_SIDE


class PatchKMeans(Method):
    """Fit the dictionary of a PatchDictionary backbone."""

    Params = PatchKMeansParams
    gradient_free = True
    trainable = False
    params: PatchKMeansParams

    @classmethod
    def own_backbone(cls, params: PatchKMeansParams) -> tuple[str, dict[str, int]]:  # type: ignore[override]
        """Return an empty patch dictionary of the size that the parameters state."""
        return "patch_dictionary", {"patches": params.patches, "patch_size": params.patch_size, "side": params.side}

    @classmethod
    def refuse_size(cls, params: PatchKMeansParams, size: int) -> None:  # type: ignore[override]
        """Refuse patches that are larger than the images, and more centroids than patches.

        Raises:
            TrainingError: saying which.
        """
        seen = min(size, params.side)
        if seen < params.patch_size:
            raise TrainingError(
                "images are smaller than a patch",
                where="methods.*.patch_size",
                found=f"{seen}x{seen} for patches of {params.patch_size}",
                fix="Lower patch_size, or raise image.size or side.",
            )
        if params.samples < params.patches:
            raise TrainingError(
                "there are fewer patches than centroids",
                where="methods.*.patches",
                found=f"{params.samples} for {params.patches}",
                fix="Raise samples or lower patches.",
            )

    def fit(self, images: np.ndarray) -> None:
        """Learn whitening and centroids from random patches of (n, S, S, C) uint8 images.

        Raises:
            TrainingError: images smaller than a patch, or fewer patches than centroids.
        """
        from reprise.clustering.dictionary import learn_dictionary

        params = self.params
        self.refuse_size(params, min(images.shape[1:3]))
        network: PatchDictionary = self.backbone
        network.input_mean.copy_(torch.tensor(self.context.mean))
        network.input_std.copy_(torch.tensor(self.context.std))
        images = reduced(images, params.side)
        learn_dictionary(network, images, params.samples, params.iterations, numpy_rng(self.context.seed, "patches"))
