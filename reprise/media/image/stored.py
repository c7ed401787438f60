"""The form in which shards store an image: its own bytes where they are plain and small enough, else without loss.

8 bits in one or three bands become a PNG, and so do unsigned numbers of up to 16 bits, which keep their values. Any
other number of bands and any other type becomes a TIFF. More than 8 bits carry the range of the data set with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.encode import deep_png, lossless_png
from reprise.media.image.fields import EXTENSIONS
from reprise.media.image.inspect import chosen_bands
from reprise.media.image.readers.files import open_file, read_page
from reprise.media.image.readers.tiff.write import write_tiff
from reprise.media.image.scale import min_is_black, own_range
from reprise.media.image.transform import resize
from reprise.media.modality import Stored


def stored_form(data: bytes, where: str, facts: Mapping[str, Any], max_side: int) -> Stored:
    """Keep the bytes of a file, or decode it, scale it down and store it without loss.

    Args:
        data: the file, as it was inspected.
        where: its name, for messages.
        facts: its columns of the manifest.
        max_side: longest side in pixels.

    Raises:
        ImageRefused: the bytes cannot be decoded.
    """
    width, height = facts["width"], facts["height"]
    if keeps_bytes(facts, max_side):
        return Stored(data, EXTENSIONS[facts["format"]], width, height)
    opened, page = open_file(data, where, None), (facts.get("page") or 1) - 1
    if page >= opened.pages:
        raise ImageRefused("undecodable", where=where, found=f"{opened.pages} pages", fix="Run `dvc repro ingest`.")
    raster = read_page(opened, page, where, data)
    values = chosen_bands(raster.values, facts.get("bands"), where)
    values = values[:, :, None] if values.ndim == 2 else values
    low, high = facts.get("low"), facts.get("high")
    limits = own_range(replace(raster, values=values)) if low is None or high is None else (low, high)
    if raster.inverted:
        values, limits = min_is_black(values, limits)
    size = stored_size(width, height, max_side)
    if size != (width, height):
        values = resize(values, *size)
    if values.shape[2] in (1, 3) and values.dtype == np.uint8:
        return Stored(lossless_png(values), "png", *size)
    if values.shape[2] in (1, 3) and values.dtype == np.uint16:
        return Stored(deep_png(values, limits), "png", *size)
    return Stored(write_tiff(values, None if values.dtype == np.uint8 else limits), "tif", *size)


def keeps_bytes(facts: Mapping[str, Any], max_side: int) -> bool:
    """Return whether the file itself goes into the shard."""
    return bool(facts["plain"]) and max(facts["width"], facts["height"]) <= max_side


def stored_size(width: int, height: int, max_side: int) -> tuple[int, int]:
    """Width and height in the shard, in pixels: as they are, or scaled so that the longer side is `max_side`."""
    longer = max(width, height)
    if longer <= max_side:
        return width, height
    return max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer))


def largest_stored_bytes(facts: Mapping[str, Any], max_side: int) -> int:
    """An upper bound of the stored form's length, known before anything is decoded.

    Shards are planned by it, so that the plan depends on the manifest alone and shards can be written side by side.

    Args:
        facts: the file's row of the manifest, with its length under `bytes`.
        max_side: longest side in pixels.
    """
    if keeps_bytes(facts, max_side):
        return int(facts["bytes"])
    width, height = stored_size(facts["width"], facts["height"], max_side)
    sample = np.dtype(facts.get("sample") or "uint8").itemsize
    raw = height * (1 + width * facts["channels"] * sample)  # a PNG's row begins with one byte for its filter
    return raw + raw // 500 + 1024  # deflate's worst case, and the frame of PNG or TIFF
