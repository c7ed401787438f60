"""The data of a probe on images: all that ProbeData has, pixels, copies of the backbone, and local features."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from reprise.artifacts.facts.sides import FILE as SIDES_FILE
from reprise.artifacts.facts.sides import Sides
from reprise.artifacts.layout import SHARDS
from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import CONFIG, WEIGHTS, open_weights, preparation_of, read_config
from reprise.artifacts.weights.text_models import TEXT, read_text_model
from reprise.config.plug_ins.registry import module_of
from reprise.config.shared_sections import DEFAULT_CACHE, CacheParams
from reprise.networks.assemble import assemble
from reprise.networks.local_features import places_of
from reprise.networks.text.encoder import TextEncoder, text_encoder
from reprise.reading.decoded import open_decoded
from reprise.storage.code.fingerprint import digest_of, fingerprint
from reprise.storage.work_folder import file_digest
from stages.probe.data import ProbeData
from stages.probe.images.local_features import LocalFeatures
from stages.probe.images.masks import side_values, squares_of

if TYPE_CHECKING:
    from torch import Tensor, nn


class ImageData(ProbeData):
    """ProbeData with images.

    Args:
        embeddings: path of an embeddings file.
        backbone: folder of a trained run; it is read and never written.
        shards: folder of the shards.
        cache: bounds of the cache of decoded images.
        options: as ProbeData's.

    Attributes:
        config: of the backbone (config.json).
        local: local features of the images; None where the architecture has none.
        sides: facts that lie beside the images in the shards: masks, boxes, flow, poses.
    """

    def __init__(
        self,
        embeddings: str | Path,
        backbone: str | Path,
        shards: str | Path = SHARDS,
        cache: CacheParams = DEFAULT_CACHE,
        **options: Any,
    ) -> None:
        super().__init__(embeddings, **options)
        self._folder, self._shards = Path(backbone), Shards.open(shards)
        self.config = read_config(self._folder)
        self._row = {key: row for row, key in enumerate(self._shards.keys)}
        self._cache, self.sides = cache, Sides(Path(shards))

    def network(self) -> nn.Module:
        """Return a new copy of the backbone from disk, in evaluation mode, with every parameter trainable."""
        network = assemble(self.config, *open_weights(self._folder), where=str(self._folder)).backbone
        return network.requires_grad_(True).to(self.device)

    def pixels(self, keys: np.ndarray) -> Tensor:
        """Return (n, C, S, S) float32 on the device, scaled, cut and normalised as embedding does."""
        return self._pixels(np.array([self._row[key] for key in keys], np.int64))

    def _pixels(self, rows: np.ndarray) -> Tensor:
        """As `pixels`, by row numbers of the shards."""
        x = torch.from_numpy(self.squares[rows]).to(self.device).permute(0, 3, 1, 2).float().div_(255.0)
        mean, std = (torch.tensor(self.config[name], device=self.device).view(1, -1, 1, 1) for name in ("mean", "std"))
        return ((x - mean) / std).contiguous(memory_format=torch.channels_last)

    @cached_property
    def text(self) -> TextEncoder | None:
        """The text side of the run, on the CPU; None for a run that has none.

        Raises:
            BackboneError: it is damaged.
        """
        if not (self._folder / TEXT).exists():
            return None
        return text_encoder(*read_text_model(self._folder), str(self._folder))

    def in_shared_space(self, features: np.ndarray) -> np.ndarray:
        """Bring features into the space that images and texts share: (n, d) -> (n, z) float32 of length one."""
        projector = assemble(self.config, *open_weights(self._folder), where=str(self._folder)).projector
        assert projector is not None, "a run with a text side has a projector"
        with torch.no_grad():
            return F.normalize(projector(torch.from_numpy(features).float()), dim=1).numpy()

    @cached_property
    def local(self) -> LocalFeatures | None:
        """Local features of the frozen backbone; each is computed when it is first asked for, once for all probes."""
        network = self.network().requires_grad_(False).eval()
        size = self.config["input_size"]
        places = places_of(network, self.config["channels"], size)
        if places is None:
            return None
        depends_on = {
            "backbone": file_digest(self._folder / WEIGHTS, self._folder / CONFIG),
            "shards": self._shards.fingerprint,
            "device": self.device,
            "threads": torch.get_num_threads(),
        }
        code = [__name__, module_of("backbones", self.config["architecture"])]
        keys = self._shards.keys.tolist()
        return LocalFeatures(network, places, self._pixels, keys, depends_on, code, size, self._cache)

    def side(self, fact: str, keys: np.ndarray) -> list[np.ndarray]:
        """Return a fact that lies beside the images, such as boxes, decoded; see `side_values`."""
        return side_values(self.sides, fact, keys.tolist())

    def masks(self, fact: str, keys: np.ndarray) -> np.ndarray:
        """Return masks as the backbone sees their images: (n, S, S) uint8, 0 for background.

        Raises:
            ShardError: an image has no such mask.
        """
        return squares_of(self.side(fact, keys), self.config["input_size"], preparation_of(self.config))

    @cached_property
    def squares(self) -> np.ndarray:
        """All images as the squares that the backbone sees: (n, S, S, C) uint8, decoded once for all runs."""
        rows, bounds, threads = self._shards.rows(), self._cache.bounds, torch.get_num_threads()
        decoded = open_decoded(self._shards, rows, self.config["channels"], threads=threads, at_once=False, **bounds)
        return decoded.squares(self.config["input_size"], **preparation_of(self.config))

    def digest(self, labels: bool, augmented: bool = False, shifted: bool = False) -> str:
        """Return the SHA-256 of all that a probe can see: as ProbeData's, with the backbone and the shards."""
        found = hashlib.sha256(super().digest(labels, augmented, shifted).encode())
        found.update(f"{file_digest(self._folder)} {self._shards.fingerprint} {torch.get_num_threads()}".encode())
        if (beside := self._shards.directory / SIDES_FILE).exists():  # it holds the hash of every mask
            found.update(file_digest(beside).encode())
        found.update(digest_of(fingerprint([module_of("backbones", self.config["architecture"])])).encode())
        return found.hexdigest()
