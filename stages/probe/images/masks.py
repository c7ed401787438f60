"""Masks of images for probes: cut and scaled as the backbone sees the images, and brought to its places.

Legend: n images, S the side that the backbone sees, h x w places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reprise.artifacts.facts.sides import Sides
from reprise.media.image.sides import decode_side
from reprise.media.image.transform import resize_to_square
from reprise.networks.local_features import Places


def side_values(sides: Sides, fact: str, keys: Sequence[str]) -> list[np.ndarray]:
    """Read a fact that lies beside the images (a mask, boxes, flow, a pose), decoded, in the order of the keys.

    Raises:
        ShardError: an image has no such fact, or its bytes are not those that were written.
        ImageRefused: the bytes cannot be decoded.
    """
    return [decode_side(sides.kinds.get(fact, ""), sides.read(key, fact), f"{key}.{fact}") for key in keys]


def squares_of(masks: Sequence[np.ndarray], size: int, preparation: Mapping[str, Any]) -> np.ndarray:
    """Cut and scale masks as their images, each pixel from the nearest one: (h, w) uint8 each -> (n, S, S) uint8.

    Args:
        masks: of the stored images.
        size: S.
        preparation: `crop_pct` and `crop_mode` of a backbone's configuration.
    """
    nearest = {**preparation, "interpolation": "nearest"}
    squares = [resize_to_square(mask[:, :, None], size, **nearest).reshape(size, size) for mask in masks]
    return np.stack(squares) if squares else np.zeros((0, size, size), np.uint8)


def shares_of(masks: np.ndarray, places: Places) -> np.ndarray:
    """Compute which share of each place an object covers: (n, S, S) -> (n, h, w) float64.

    A place is the square around its centre whose side is the distance of neighbouring places.
    """
    size = masks.shape[1]
    side = max(1, round(places.stride))
    first = [int(places.centre(i, size) - places.stride / 2 + 1e-9) for i in range(places.rows)]
    spans = [slice(at, min(at + side, size)) for at in first]
    covered = masks > 0
    rows = [[covered[:, down, across].mean(axis=(1, 2)) for across in spans] for down in spans]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1)
