"""`patches`: a dictionary of image patches by k-means, and how close each image comes to its centroids.

Source: Coates, Ng, Lee, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011. Network
and dictionary are those of the method `patch_kmeans`: contrast normalisation, ZCA whitening, k-means
(reprise/clustering/dictionary.py), max(0, mean distance - distance), averaged over the four quadrants
(reprise/networks/patch_dictionary.py). Then principal components, since 4 K correlated dimensions drown distances.
Images larger than `side` are scaled down to it first.

Legend: n images, S their side, C channels, K centroids, d dimensions.

Checked by: tests/stages/mine/test_extractors.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from reprise.clustering.dictionary import learn_dictionary
from reprise.config.errors import MiningError
from reprise.config.params import StrictModel, meaning
from reprise.measures.principal import EXACT, Rows, principal_basis, with_fixed_signs
from reprise.networks.patch_dictionary import PatchDictionary
from reprise.reading.reduced import REDUCED_SIDE, reduced
from reprise.runtime.seeds import numpy_rng
from stages.mine.extractor import Extractor

CHUNK = 256  # images of 32 pixels described together, and fewer of larger ones


class PatchParams(StrictModel):
    """Parameters of `patches`."""

    patches: Annotated[int, Field(ge=2, le=100_000), meaning("The dictionary has this many patches.", "patches")] = 256
    patch_size: Annotated[int, Field(ge=2, le=64), meaning("Patches are squares of this side.", "pixels")] = 6
    samples: Annotated[
        int, Field(ge=100, le=10_000_000), meaning("The dictionary is learned from this many patches.", "patches")
    ] = 100_000
    iterations: Annotated[
        int,
        Field(ge=1, le=1000),
        meaning("K-means takes at most this many iterations to learn the dictionary.", "iterations"),
    ] = 30
    components: Annotated[
        int,
        Field(ge=1, le=4096),
        meaning("This many principal components of the features are kept, if there are as many.", "components"),
    ] = 128
    side: Annotated[
        int, Field(ge=2, le=1024), meaning("Larger images are scaled down to this side first.", "pixels")
    ] = REDUCED_SIDE


class Patches(Extractor):
    """Learns the dictionary on these images and describes them with it."""

    Params = PatchParams
    params: PatchParams

    def features(self, images: np.ndarray, work: Path) -> np.ndarray:
        """(n, S, S, C) uint8 -> (n, min(components, 4 K)) float32.

        Raises:
            MiningError: images smaller than a patch, or fewer sampled patches than centroids.
        """
        params = self.params
        images = reduced(images, params.side, self.compute.threads)
        if images.shape[1] < params.patch_size or params.samples < params.patches:
            raise MiningError(
                "the dictionary cannot be learned",
                where="extractors.*",
                found=f"images of {images.shape[1]} pixels, patches of {params.patch_size}; {params.samples} samples",
                fix="Lower patch_size or patches, or raise image.size, side or samples.",
            )
        network = PatchDictionary(params.patches, params.patch_size, images.shape[3]).eval()  # of pixels from 0 to 1
        learn_dictionary(network, images, params.samples, params.iterations, numpy_rng(self.seed, "patches"))
        chunk = max(1, CHUNK * REDUCED_SIDE**2 // max(REDUCED_SIDE, images.shape[1]) ** 2)
        return principal(self.described(images, chunk, "patch features", network), params.components)

    def describer(self, *prepared: Any) -> Callable[[np.ndarray], np.ndarray]:
        """Describe images by the dictionary that was learnt; a worker scales them down first."""
        network = prepared[0].to(self.compute.device)

        def describe(block: np.ndarray) -> np.ndarray:
            pixels = torch.from_numpy(np.array(reduced(block, self.params.side, self.compute.threads)))
            with torch.inference_mode():
                x = pixels.to(self.compute.device).permute(0, 3, 1, 2).float().div_(255.0)
                found: np.ndarray = network(x).cpu().numpy()
            return found

        return describe


def principal(features: np.ndarray, components: int) -> np.ndarray:
    """Project on the leading principal components, the largest loading positive: (n, min(components, d)) float32."""
    mean, dimensions = features.mean(axis=0, dtype=np.float64), features.shape[1]
    if dimensions <= EXACT:
        x = features.astype(np.float64) - mean
        return (x @ with_fixed_signs(np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :components])).astype(np.float32)
    rows = Rows(features)
    return rows.projected(principal_basis(rows, components))
