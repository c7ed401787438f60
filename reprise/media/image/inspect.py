"""Untrusted bytes -> what they are, page by page, or the reason why they are refused."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.decode import MAX_PIXELS
from reprise.media.image.readers.files import check_size, open_file, read_page, too_many_pixels
from reprise.media.image.readers.opencv import decode_plain
from reprise.media.image.readers.pillow_file import UPRIGHT, PillowFile, orientation
from reprise.media.image.readers.raster import PROFILE, Opened, Raster
from reprise.media.image.readers.refusal import decoder_errors
from reprise.media.image.scale import Observed, min_is_black, observe
from reprise.media.image.sketch import sketch
from reprise.media.modality import Choices, Limits

PLAIN_FORMATS = ("JPEG", "PNG", "WEBP")
_STRETCHED = 257  # 65535 / 255: what one of 8 bits becomes in 16
_STACK = 20  # times source.max_pixels: the most that all pages of a file may hold together
# Codes of what was changed (docs/reference/data-rules.md), besides those of the readers.
PAGE, BANDS, INCOMPLETE, NO_DATA = "page", "bands", "not_finite", "no_data"


@dataclass(frozen=True)
class Inspection:
    """What decoding a whole page showed; up to `sample` the fields are columns of the manifest (fields.py).

    Attributes:
        width: pixels, after the image is turned upright.
        height: pixels, likewise.
        channels: bands: 1 (grey), 3 (colour), or as many as there are, after the rules.
        format: one of files.FORMATS, by content and not by name.
        plain: whether the bytes need none of the rules, so that any decoder shows the same pixels.
        pixels: digest of the decoded pixels; see `pixel_digest`.
        page: which page or frame, from 1; None where the file has one.
        bands: which bands, from 1; None for all.
        sample: the type of the values; None for 8 bits.
        observed: what the values say about their range; None for 8 bits.
        changes: code -> sentence, for each thing that was changed.
        sketch: a small picture by which near-copies are found; see sketch.py.
    """

    width: int
    height: int
    channels: int
    format: str
    plain: bool
    pixels: str
    page: int | None = None
    bands: str | None = None
    sample: str | None = None
    observed: Observed | None = None
    changes: dict[str, str] = field(default_factory=dict)
    sketch: bytes = b""


def inspect(data: bytes, where: str, max_pixels: int = MAX_PIXELS, min_side: int = 1) -> Inspection:
    """Decode the first page of an image completely and describe it.

    Args:
        data: the encoded file.
        where: its name, for messages.
        max_pixels: largest width x height; larger images are refused by their header, before a pixel is decoded.
        min_side: smallest side in pixels.

    Raises:
        ImageRefused: as `inspect_pages`.
    """
    return inspect_pages(data, where, Limits(max_pixels, min_side))[0]


def inspect_pages(data: bytes, where: str, limits: Limits) -> list[Inspection]:
    """Decode the pages that were chosen completely and describe each of them.

    Args:
        data: the encoded file.
        where: its name, for messages.
        limits: files beyond them are refused, and only what they choose is taken.

    Raises:
        ImageRefused: its `what` is the quarantine's reason code: empty, not_an_image, truncated, undecodable,
            too_many_pixels, too_small, missing_bands or unsupported_depth. A file with a damaged page is refused whole.
    """
    opened, choices = open_file(data, where, limits.max_pixels), limits.choices
    count = opened.pages
    pages = {"first": [0], "middle": [(count - 1) // 2], "all": list(range(count))}[choices.pages]
    if len(pages) > 1:
        with decoder_errors(where, opened.format, data):
            _check_stack(opened, pages, where, limits)
    found = []
    for page in pages:
        name = where if count == 1 else f"{where} (page {page + 1})"
        raster = _read_within(limits, opened, page, name, data)
        inspection = _describe(raster, opened.format, name, choices)
        if count > 1:
            taken = f"page {page + 1} of {count}" if len(pages) == 1 else f"page {page + 1} of {count}, each an image"
            inspection = replace(inspection, page=page + 1, changes=inspection.changes | {PAGE: f"{taken} was taken"})
        elif set(inspection.changes) <= {PROFILE} and isinstance(opened, PillowFile):
            inspection = replace(inspection, plain=_is_plain(opened, data, raster.values))
        found.append(inspection)
    return found


def _read_within(limits: Limits, opened: Opened, page: int, where: str, data: bytes) -> Raster:
    """Decode a page that the limits permit.

    Raises:
        ImageRefused: too_many_pixels, too_small, or a page that cannot be decoded.
    """
    size = check_size(opened, page, where, limits.max_pixels, data)
    if size > limits.max_bytes:
        raise ImageRefused(
            "too_many_pixels",
            where=where,
            found=f"{size:,} bytes of samples",
            fix=f"The limit is {limits.max_bytes:,}, eight for each of source.max_pixels: scale it down.",
        )
    raster = read_page(opened, page, where, data)
    height, width = raster.values.shape[:2]
    if height * width > limits.max_pixels:  # libheif may find out only now
        raise too_many_pixels(width, height, where, limits.max_pixels)
    if min(height, width) < limits.min_side:
        raise ImageRefused(
            "too_small",
            where=where,
            found=f"{width} x {height} pixels",
            fix=f"Images need at least {limits.min_side} pixels a side (source.min_side).",
        )
    return raster


def chosen_bands(values: np.ndarray, bands: str | None, where: str) -> np.ndarray:
    """Select bands of (h, w) or (h, w, c) values.

    Args:
        values: as a file holds them.
        bands: numbers from 1, with commas; None takes all.
        where: name of the file, for messages.

    Raises:
        ImageRefused: a band that the image does not have.
    """
    if bands is None:
        return values
    wanted = [int(number) - 1 for number in bands.split(",")]
    present = 1 if values.ndim == 2 else values.shape[2]
    if max(wanted) >= present:
        raise ImageRefused(
            "missing_bands",
            where=where,
            found=f"{present} band{'s' if present > 1 else ''}, and {bands} are wanted",
            fix="Choose others with source.bands in params.yaml.",
        )
    layers = values.reshape(*values.shape[:2], present)[:, :, wanted]
    return layers[:, :, 0] if len(wanted) == 1 else layers


def _check_stack(opened: Opened, pages: list[int], where: str, limits: Limits) -> None:
    """Refuse a file whose pages together would keep a decoder busy for minutes."""
    total = 0
    for page in pages:
        width, height, _ = opened.size(page)
        total += width * height
    if total > _STACK * limits.max_pixels:
        raise ImageRefused(
            "too_many_pixels",
            where=where,
            found=f"{len(pages):,} pages with {total:,} pixels",
            fix=f"The limit for all pages is {_STACK} times source.max_pixels; set source.pages to first or middle.",
        )


def _describe(raster: Raster, file_format: str, where: str, choices: Choices) -> Inspection:
    """Choose the bands of a decoded page and describe it; whether it is plain is not known yet."""
    values, changes, bands = raster.values, dict(raster.changes), None
    present = raster.channels
    if choices.bands and list(choices.bands) != list(range(1, present + 1)):
        bands = ",".join(map(str, choices.bands))
        values = chosen_bands(values, bands, where)
        changes[BANDS] = f"bands {bands} of {present} were taken"
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    observed = observe(replace(raster, values=values), choices)
    if observed is not None and observed.incomplete:
        changes[INCOMPLETE] = "infinite values, or values that are no number, become black or white"
    if observed is not None and raster.missing is not None:
        changes[NO_DATA] = f"the value {raster.missing:g}, which the file calls 'no data', was left out of the range"
    sample_type = None if raster.eight_bits else values.dtype.name
    digest = pixel_digest(min_is_black(values, (0, 0))[0] if raster.inverted else values)
    extremes = (0.0, 255.0) if observed is None else (observed.lowest, observed.highest)
    small = sketch(values, extremes, raster.inverted)
    return Inspection(
        width, height, channels, file_format, False, digest, None, bands, sample_type, observed, changes, small
    )


def pixel_digest(pixels: np.ndarray) -> str:
    """Compute the SHA-256 of decoded pixels and their shape, in hexadecimal.

    It is the same for every file that shows the same picture, whatever its format, compression, orientation, byte order
    or metadata. Grey that is stored as equal colours counts as grey, and 8 bits stretched to 16 count as 8.

    Args:
        pixels: (h, w) grey or (h, w, c), of any type.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 3 and bool((pixels == pixels[:, :, :1]).all()):
        pixels = pixels[:, :, 0]
    if pixels.dtype.newbyteorder("=") == np.uint16 and not (pixels % _STRETCHED).any():
        pixels = (pixels // _STRETCHED).astype(np.uint8)
    pixels = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    digest = hashlib.sha256(f"{pixels.dtype.str} {pixels.shape}\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _is_plain(opened: PillowFile, data: bytes, pixels: np.ndarray) -> bool:
    """Return whether any decoder shows these pixels. The header promises it; the pixels are what counts."""
    image = opened.image
    promised = opened.format in PLAIN_FORMATS and image.format != "MPO" and opened.bits == 8
    if not promised or orientation(image) != UPRIGHT or image.mode not in ("L", "RGB"):
        return False
    fast = decode_plain(data)
    return fast is not None and fast.shape == pixels.shape and bool(np.array_equal(fast, pixels))
