"""A single-layer network of image patches: whitening, a dictionary, the triangle code, quadrant pooling.

Source: Coates, Ng, Lee, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning" (AISTATS
2011), sections 3 and 4; receptive field 6, stride 1. The dictionary and the whitening matrix are buffers: the
method `patch_kmeans` fills them by k-means, without gradients. An image of 224 pixels would have 47,961 patches, each
compared with every centroid, so images above a stated side are scaled down to it first.

Shape legend: B images, C channels, S side, P patch side, K dictionary size, p = P * P * C.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMALISE_EPSILON = 10.0  # added to the patch variance on the 0..255 scale, as in the authors' code


class PatchDictionary(nn.Module):
    """Frozen patch features.

    Args:
        patches: K, the number of centroids; the features have 4 K dimensions.
        patch_size: P, in pixels.
        channels: C.
        side: larger images are scaled down to it, with the antialiased triangle of all views; None keeps them.

    Buffers `input_mean` and `input_std` (per channel) undo the input's normalisation, back to the 0..255 scale.
    """

    whitening_mean: Tensor
    whitening: Tensor
    centroids: Tensor
    input_mean: Tensor
    input_std: Tensor

    def __init__(self, patches: int = 256, patch_size: int = 6, channels: int = 3, side: int | None = None) -> None:
        super().__init__()
        size = patch_size * patch_size * channels
        self.patch_size, self.num_features, self.side = patch_size, 4 * patches, side
        self.register_buffer("whitening_mean", torch.zeros(size))
        self.register_buffer("whitening", torch.zeros(size, size).fill_diagonal_(1.0))
        self.register_buffer("centroids", torch.zeros(patches, size))
        self.register_buffer("input_mean", torch.zeros(channels))
        self.register_buffer("input_std", torch.ones(channels))

    def patches(self, x: Tensor) -> Tensor:
        """Cut contrast-normalised patches at every position: (B, C, S, S) -> (B, L, p), L = (S - P + 1)^2."""
        pixels = 255.0 * (x.float() * self.input_std.view(1, -1, 1, 1) + self.input_mean.view(1, -1, 1, 1))
        unfolded = F.unfold(pixels, self.patch_size).transpose(1, 2)
        centred = unfolded - unfolded.mean(dim=2, keepdim=True)
        return centred / torch.sqrt(centred.var(dim=2, keepdim=True, unbiased=True) + NORMALISE_EPSILON)

    def local_stride(self, size: int) -> float:
        """Return the distance of neighbouring places in pixels of an image of this side."""
        return max(1.0, size / self.side) if self.side is not None else 1.0

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the triangle code of the patch at every position: (B, C, S, S) normalised -> (B, K, h, w)."""
        with torch.autocast(x.device.type, enabled=False):
            if self.side is not None and min(x.shape[-2:]) > self.side:
                x = F.interpolate(x.float(), (self.side, self.side), mode="bilinear", antialias=True)
            white = (self.patches(x) - self.whitening_mean) @ self.whitening
            distance = torch.cdist(white, self.centroids.expand(x.shape[0], -1, -1))
            code = F.relu(distance.mean(dim=2, keepdim=True) - distance)  # triangle: max(0, mean distance - distance)
            side = x.shape[-1] - self.patch_size + 1
            return code.transpose(1, 2).reshape(x.shape[0], -1, x.shape[-2] - self.patch_size + 1, side)

    def forward(self, x: Tensor) -> Tensor:
        """Average triangle activations over the four quadrants: (B, C, S, S) normalised images -> (B, 4 K)."""
        with torch.autocast(x.device.type, enabled=False):
            # average rather than sum: the same up to a scale that every probe standardises away
            return F.adaptive_avg_pool2d(self.forward_features(x), 2).flatten(1)
