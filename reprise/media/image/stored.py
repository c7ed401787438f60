"""The form in which shards store an image: its own bytes where they are plain and small enough, else a PNG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reprise.media.image.decode import decode
from reprise.media.image.encode import lossless_png
from reprise.media.image.fields import EXTENSIONS
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
    pixels = decode(data, where, facts["channels"], max_pixels=width * height)
    size = stored_size(width, height, max_side)
    if size != (width, height):
        pixels = resize(pixels, *size)
    return Stored(lossless_png(pixels), "png", *size)


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
    raw = height * (1 + width * facts["channels"])  # a PNG's row begins with one byte for its filter
    return raw + raw // 500 + 1024  # deflate's worst case, and the PNG's frame
