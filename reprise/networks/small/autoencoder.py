"""The denoising autoencoder of G-SimCLR: three convolutions with batch normalisation, ReLU and pooling, mirrored.

Source: Chakraborty et al. 2020 and its notebooks: Gaussian noise of standard deviation 0.01 on inputs in [0, 1],
channels 32-64-128, sigmoid output, mean squared error; the code is averaged over positions to 128 numbers.
Images whose side is not a multiple of 8 are padded by reflection, and the loss is taken on the true pixels.

Shapes: x (B, C, S, S) in [0, 1] -> code (B, 128).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (32, 64, 128)


class DenoisingAutoencoder(nn.Module):
    """An encoder and a decoder that restore images, and the averaged code that describes them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        down, up, before = [], [], channels
        for width in WIDTHS:
            down += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            before = width
        for width in WIDTHS[::-1]:
            up += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Upsample(scale_factor=2),
            ]
            before = width
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up, nn.Conv2d(before, channels, 3, padding=1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Restore images: (B, C, S, S) noisy -> (B, C, S, S) restored, in [0, 1]."""
        height, width = x.shape[-2:]
        return self.decoder(self.encoder(_pad(x)))[..., :height, :width]

    def code(self, x: Tensor) -> Tensor:
        """Describe images: (B, C, S, S) clean -> (B, 128), the mean of the code over its positions."""
        return torch.mean(self.encoder(_pad(x)), dim=(2, 3))


def _pad(x: Tensor) -> Tensor:
    bottom, right = -x.shape[-2] % 8, -x.shape[-1] % 8
    return F.pad(x, (0, right, 0, bottom), mode="reflect") if bottom or right else x
