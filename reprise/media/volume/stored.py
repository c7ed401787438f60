"""The form in which shards store a volume: `.npy` of 8 bits, (D, H, W, C), which plain `webdataset` decodes by itself.

Values of more than 8 bits are brought to 8 when shards are written, by the range of the data set that the manifest
states. Values are stored as they are or scaled down, never compressed: a shard is read by place, and gzip's bytes
depend on its version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.readers.raster import Raster
from reprise.media.image.scale import own_range, to_eight_bits
from reprise.media.modality import Stored
from reprise.media.volume.cube import resize
from reprise.media.volume.inspect import chosen_channels, read_volume
from reprise.media.volume.npy import read_npy, written_npy

EXTENSION = "npy"
_HEADER = 256  # bytes; that of a .npy of our own has 128


def stored_form(data: bytes, where: str, facts: Mapping[str, Any], max_side: int) -> Stored:
    """Read a volume, bring it to 8 bits, scale it down where it is too large, and write it.

    Args:
        data: the file, as it was inspected.
        where: its name, for messages.
        facts: its columns of the manifest.
        max_side: longest side, in values.

    Raises:
        ImageRefused: the bytes cannot be read.
    """
    values = chosen_channels(read_volume(data, where, None).values, facts.get("bands"), where)
    low, high = facts.get("low"), facts.get("high")
    limits = own_range(Raster(values)) if low is None or high is None else (low, high)
    depth, height, width = stored_size(values.shape[:3], max_side)
    cube = resize(to_eight_bits(values, limits), depth, height, width)
    return Stored(written_npy(cube), EXTENSION, width, height, depth)


def stored_size(sides: tuple[int, ...], max_side: int) -> tuple[int, int, int]:
    """Depth, height and width in the shard: as they are, or scaled so that the longest is `max_side`."""
    longest = max(sides)
    depth, height, width = (max(1, round(side * max_side / longest)) if longest > max_side else side for side in sides)
    return depth, height, width


def largest_stored_bytes(facts: Mapping[str, Any], max_side: int) -> int:
    """Return an upper bound of the stored form's length, without reading anything."""
    sides = stored_size((facts["depth"], facts["height"], facts["width"]), max_side)
    return int(np.prod(sides, dtype=np.int64)) * int(facts["channels"]) + _HEADER


def decode(data: bytes, where: str, channels: int | None) -> np.ndarray:
    """Decode the stored form: (D, H, W, channels) uint8.

    Args:
        data: the stored bytes.
        where: its name, for messages.
        channels: wanted; 3 repeats a single channel, 1 takes the mean of three, None takes those of the volume.

    Raises:
        ImageRefused: the bytes cannot be read, or have other channels than wanted.
    """
    values = read_npy(data, where, None).values
    if values.dtype != np.uint8:
        raise ImageRefused("undecodable", where=where, found=f"values of the type {values.dtype}", fix="Run shard.")
    present = values.shape[3]
    if channels in (None, present):
        return values
    if (present, channels) == (1, 3):
        return np.repeat(values, 3, axis=3)
    if (present, channels) == (3, 1):
        total = values.sum(axis=3, keepdims=True, dtype=np.uint16)
        return ((2 * total + 3) // 6).astype(np.uint8)
    raise ImageRefused(
        "a volume has other channels than networks see",
        where=where,
        found=f"{present} channel{'s' if present > 1 else ''}, image.channels {channels}",
        fix=f"Set image.channels to {present}, or choose {channels} channels with source.bands in params.yaml.",
    )
