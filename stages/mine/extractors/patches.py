"""`patches`: a dictionary of image patches by k-means, and how strongly each image answers to its words.

Source: Coates, Ng, Lee, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011; the
network is the one of the method `patch_kmeans` (reprise/networks/patch_dictionary.py): contrast normalisation, ZCA
whitening, k-means, max(0, mean distance - distance), averaged over the four quadrants. Then principal components, since
4 K correlated dimensions drown distances.

Legend: N patches, p = patch side^2 * channels, K words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from reprise.clustering.lloyd import fit
from reprise.config.errors import MiningError
from reprise.config.params import StrictModel
from reprise.networks.patch_dictionary import NORMALISE_EPSILON, PatchDictionary
from reprise.runtime.progress import Progress
from reprise.runtime.seeds import numpy_rng
from stages.mine.extractor import Extractor

WHITENING_EPSILON = 0.1  # added to the eigenvalues (section 3.1.2)
CHUNK = 256  # images described together


class PatchParams(StrictModel):
    """patches: K. patch_size: pixels. samples: patches to learn from. iterations: of k-means. components: kept."""

    patches: Annotated[int, Field(ge=2, le=100_000)] = 256
    patch_size: Annotated[int, Field(ge=2, le=64)] = 6
    samples: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000
    iterations: Annotated[int, Field(ge=1, le=1000)] = 30
    components: Annotated[int, Field(ge=1, le=4096)] = 128


class Patches(Extractor):
    """Learns the dictionary on these images and describes them with it."""

    Params = PatchParams
    params: PatchParams

    def features(self, images: np.ndarray, work: Path) -> np.ndarray:
        """(n, S, S, C) uint8 -> (n, min(components, 4 K)) float32.

        Raises:
            MiningError: images smaller than a patch, or fewer sampled patches than words.
        """
        params = self.params
        if images.shape[1] < params.patch_size or params.samples < params.patches:
            raise MiningError(
                "the dictionary cannot be learned",
                where="extractors.*",
                found=f"images of {images.shape[1]} pixels, patches of {params.patch_size}; {params.samples} samples",
                fix="Lower patch_size or patches, or raise image.size or samples.",
            )
        network = self.dictionary(images).to(self.compute.device)
        found = []
        with torch.inference_mode(), Progress("patch features", len(images)) as progress:
            for start in range(0, len(images), CHUNK):
                block = torch.from_numpy(np.ascontiguousarray(images[start : start + CHUNK]))
                x = block.to(self.compute.device).permute(0, 3, 1, 2).float().div_(255.0)
                found.append(network(x).cpu().numpy())
                progress.advance(len(block))
        return principal(np.concatenate(found), params.components)

    def dictionary(self, images: np.ndarray) -> PatchDictionary:
        """Whitening and words from random patches of random images."""
        params, side = self.params, self.params.patch_size
        n, height, width, channels = images.shape
        rng = numpy_rng(self.seed, "patches")
        which, top, left = (
            rng.integers(0, limit, params.samples) for limit in (n, height - side + 1, width - side + 1)
        )
        steps = np.arange(side)
        cut = images[which[:, None, None], top[:, None, None] + steps[:, None], left[:, None, None] + steps]
        flat = cut.transpose(0, 3, 1, 2).reshape(params.samples, -1).astype(np.float32)  # as torch's unfold has it
        flat -= flat.mean(axis=1, keepdims=True)
        flat /= np.sqrt(flat.var(axis=1, ddof=1, keepdims=True) + NORMALISE_EPSILON)
        mean = flat.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(flat.T.astype(np.float64)))
        whitening = vectors @ np.diag(1 / np.sqrt(np.maximum(values, 0) + WHITENING_EPSILON)) @ vectors.T
        white = (flat - mean) @ whitening.astype(np.float32)
        words = fit(white, params.patches, params.iterations, 1, rng)
        network = PatchDictionary(params.patches, side, channels)
        for name, value in {
            "whitening_mean": mean,
            "whitening": whitening,
            "centroids": words,
            "input_mean": np.zeros(channels),
            "input_std": np.ones(channels),
        }.items():
            getattr(network, name).copy_(torch.from_numpy(np.asarray(value, dtype=np.float32)))
        return network.eval()


def principal(features: np.ndarray, components: int) -> np.ndarray:
    """(n, d) -> (n, min(components, d)) float32: leading principal components, largest loading positive."""
    x = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    basis = np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :components]
    return (x @ (basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(basis.shape[1])]))).astype(np.float32)
