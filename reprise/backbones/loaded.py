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
from reprise.media.lookup import VOLUME, modality
from reprise.networks.assemble import assemble
from reprise.networks.backbone import backbone_named
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
        modality: `image`, or `volume`, whose samples are (C, S, S, S).
    """

    def __init__(self, network: nn.Module, config: dict[str, Any], checked: BackboneConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.num_features, self.input_size, self.channels = checked.num_features, checked.input_size, checked.channels
        self.modality = backbone_named(checked.architecture, dict(checked.options)).modalities[0]
        self._preparation = preparation_of(config)
        axes = (1,) * len(self.shape[1:])
        for name, values in (("mean", checked.mean), ("std", checked.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, *axes), persistent=False)
        self.requires_grad_(False)
        self.eval()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, S, S), or (C, S, S, S)."""
        return (self.channels, *[self.input_size] * (3 if self.modality == VOLUME else 2))

    def forward(self, images: Tensor) -> Tensor:
        """Compute features (B, d) of prepared images (B, C, S, S)."""
        features: Tensor = self.network(images)
        return features

    def prepare(self, images: Sequence[str | Path | bytes | np.ndarray | Image.Image]) -> Tensor:
        """Decode, scale, cut and normalise images as the evaluation of Reprise does.

        Args:
            images: of any sizes: paths, encoded files, pictures of Pillow, or (h, w) and (h, w, C) uint8 arrays. Of
                volumes, (d, h, w) and (d, h, w, C) uint8 arrays.

        Returns:
            (B, C, S, S) float32, where the backbone is.

        Raises:
            BackboneError: an array of another type or of other bands, or the file of a volume.
            ImageRefused: a file that cannot be decoded.
        """
        squares = [self._square(image, f"image {number}") for number, image in enumerate(images)]
        empty = np.empty((0, *self.shape[1:], self.channels), np.uint8)
        pixels = torch.from_numpy(np.stack(squares) if squares else empty).to(self.mean.device)
        normalised: Tensor = (pixels.movedim(-1, 1).float().div_(255.0) - self.mean) / self.std
        return normalised.contiguous()

    def _square(self, image: Any, where: str) -> np.ndarray:
        if self.modality == VOLUME:
            return self._cube(image, where)
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

    def _cube(self, volume: Any, where: str) -> np.ndarray:
        values = volume[..., None] if isinstance(volume, np.ndarray) and volume.ndim == 3 else volume
        if not isinstance(values, np.ndarray) or values.dtype != np.uint8 or values.shape[3:] != (self.channels,):
            raise BackboneError(
                "a volume has the wrong form",
                where=where,
                found=f"an array of {values.dtype} and shape {values.shape}"
                if isinstance(values, np.ndarray)
                else f"no array but a {'path' if isinstance(values, str | Path) else type(values).__name__}",
                fix=f"Give arrays of uint8, (depth, height, width) or with {self.channels} channels behind. Which "
                "values become 0 and 255 was chosen for the whole data set, which one file does not know.",
            )
        return modality(VOLUME).resize_to_square(values, self.input_size)


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
