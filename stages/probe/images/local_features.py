"""Local features of a run's images for probes: computed when they are first asked for, and kept in `.reprise/local`.

Batches all have the same size, the last one filled up, so that the features of an image have the same bits whichever
images are asked for with it, and whether or not they come from the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprise.config.shared_sections import CacheParams
from reprise.networks.local_features import Places, local_features
from reprise.reading.blocks import Blocks, Bounds
from reprise.runtime.memory import evaluation_batch
from reprise.storage.work_folder import inputs_key, keyed_by_code

CACHE = Path(".reprise/local")
BATCH = 64  # images of up to 64 pixels in a batch and in a block of the cache, and fewer of larger ones


class LocalFeatures:
    """Local features of all images of the shards by one frozen backbone.

    Args:
        network: the backbone, in evaluation mode.
        places: of the network.
        pixels: (m,) row numbers of the shards -> (m, C, S, S) on the device, as the network sees them.
        keys: of the images, in the order of the shards' rows.
        depends_on: everything that the features depend on besides the code, as plain values.
        code: the modules that compute them.
        size: S in pixels.
        cache: bounds of the cache.

    Attributes:
        places: where local features lie in an image, and how many numbers they have.
    """

    def __init__(
        self,
        network: nn.Module,
        places: Places,
        pixels: Callable[[np.ndarray], Tensor],
        keys: Sequence[str],
        depends_on: dict[str, Any],
        code: Sequence[str],
        size: int,
        cache: CacheParams,
    ) -> None:
        self.places, self._network, self._pixels = places, network, pixels
        self._row = {key: row for row, key in enumerate(keys)}
        self._device = next((value.device for value in network.state_dict().values()), torch.device("cpu"))
        self._batch = min(BATCH, evaluation_batch(size, self._device.type))
        key = inputs_key(keyed_by_code({**depends_on, "batch": self._batch}, [__name__, *code]))
        shape = (places.width, places.rows, places.columns)
        bounds = Bounds(cache.max_bytes, cache.memory_bytes)
        self._blocks = Blocks(CACHE / key, len(keys), shape, self._batch, self._compute, bounds, "local features")

    def maps(self, keys: np.ndarray) -> Tensor:
        """Return the local features of images by their keys: (m, D, h, w) float32 on the device."""
        found = self._blocks.rows(np.array([self._row[key] for key in keys], np.int64))
        return torch.from_numpy(found).to(self._device)

    def tokens(self, keys: np.ndarray) -> Tensor:
        """Return them as a list of places, row by row: (m, h w, D) float32 on the device."""
        return self.maps(keys).flatten(2).transpose(1, 2)

    def changed(self, keys: np.ndarray, change: Callable[[Tensor], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the local features of images and those of changed copies, (b, D, h, w) each, which are not kept.

        Args:
            keys: of the images.
            change: (b, C, S, S) -> (b, C, S, S), image by image.
        """
        for start in range(0, len(keys), self._batch):
            own = keys[start : start + self._batch]
            x = change(self._pixels(self._filled(np.array([self._row[key] for key in own], np.int64))))
            yield self.maps(own), self._forward(x)[: len(own)]

    def _filled(self, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, np.full(self._batch - len(rows), rows[0])])

    def _forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            found = local_features(self._network, x)
            assert found is not None, "a network with places has local features"
            return found.float()

    def _compute(self, rows: np.ndarray) -> np.ndarray:
        """(m,) row numbers -> (m, D, h, w) float32, in batches of one size."""
        found = np.empty((len(rows), self.places.width, self.places.rows, self.places.columns), np.float32)
        for start in range(0, len(rows), self._batch):
            own = rows[start : start + self._batch]
            found[start : start + len(own)] = self._forward(self._pixels(self._filled(own)))[: len(own)].cpu().numpy()
        return found
