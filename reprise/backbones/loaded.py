"""A trained backbone as a module for other programs: `reprise.load_backbone`.

Shape legend: B images, C channels, S side in pixels, d features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from reprise.artifacts.weights.backbones import (
    BackboneConfig,
    checked_config,
    open_weights,
    preparation_of,
    read_config,
)
from reprise.config.errors import BackboneError
from reprise.media.image.decode import decode
from reprise.media.image.transform import as_channels, resize_to_square
from reprise.networks.assemble import assemble
from reprise.storage.listing import read_regular

if TYPE_CHECKING:
    from PIL import Image

_LARGEST_FILE = 1 << 30  # bytes of an image


class LoadedBackbone(nn.Module):
    """A frozen backbone that knows how images are prepared for it.

    Attributes:
        network: the network itself: (B, C, S, S) normalised images -> (B, d).
        config: the run's config.json, whole.
        num_features: d.
        input_size: S.
        channels: C.
    """

    def __init__(self, network: nn.Module, config: dict[str, Any], checked: BackboneConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.num_features, self.input_size, self.channels = checked.num_features, checked.input_size, checked.channels
        self._preparation = preparation_of(config)
        for name, values in (("mean", checked.mean), ("std", checked.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Compute features (B, d) of prepared images (B, C, S, S)."""
        features: Tensor = self.network(images)
        return features

    def prepare(self, images: Sequence[str | Path | bytes | np.ndarray | Image.Image]) -> Tensor:
        """Decode, scale, cut and normalise images as the evaluation of Reprise does.

        Args:
            images: of any sizes: paths, encoded files, pictures of Pillow, or (h, w) and (h, w, C) uint8 arrays.

        Returns:
            (B, C, S, S) float32, where the backbone is.

        Raises:
            BackboneError: an array of another type or of other bands.
            ImageRefused: a file that cannot be decoded.
        """
        squares = [self._square(image, f"image {number}") for number, image in enumerate(images)]
        empty = np.empty((0, self.input_size, self.input_size, self.channels), np.uint8)
        pixels = torch.from_numpy(np.stack(squares) if squares else empty).to(self.mean.device)
        normalised: Tensor = (pixels.permute(0, 3, 1, 2).float().div_(255.0) - self.mean) / self.std
        return normalised.contiguous()

    def _square(self, image: Any, where: str) -> np.ndarray:
        if isinstance(image, str | Path):
            where, image = str(image), read_regular(Path(image), _LARGEST_FILE)
        if isinstance(image, bytes):
            pixels = decode(image, where, self.channels)
        elif isinstance(image, np.ndarray):
            pixels = image
        else:
            pixels = np.asarray(image.convert("L" if self.channels == 1 else "RGB"))
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
            raise BackboneError(
                "an image has the wrong form",
                where=where,
                found=f"an array of {pixels.dtype} and shape {pixels.shape}",
                fix="Give arrays of uint8, (height, width) or (height, width, bands); floats times 255, rounded.",
            )
        pixels = as_channels(pixels, self.channels)
        if pixels.shape[2] != self.channels:
            raise BackboneError(
                "an image has other bands than the backbone was trained on",
                where=where,
                found=f"{pixels.shape[2]} bands, not {self.channels}",
                fix="Choose the bands, or another backbone.",
            )
        return resize_to_square(pixels, self.input_size, **self._preparation)


def load_backbone(folder: str | Path, device: str = "cpu") -> LoadedBackbone:
    """Load the backbone in the folder of a run (`data/runs/simclr/0`, or what `reprise get` copied).

    Args:
        folder: holds backbone.safetensors, heads.safetensors and config.json. Nothing in it can run code.
        device: where it is put.

    Raises:
        BackboneError: the folder is no run, damaged, or of another form.
    """
    config = read_config(folder)
    network = assemble(config, *open_weights(folder), where=str(folder)).backbone
    return LoadedBackbone(network, config, checked_config(config, folder)).to(device)
