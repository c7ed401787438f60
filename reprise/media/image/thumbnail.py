"""Small pictures of images: for the report's page and for contact sheets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reprise.media.image.decode import decode
from reprise.media.image.encode import sheet_png
from reprise.media.image.transform import resize_to_square

Draw = Callable[[bytes, str], np.ndarray]  # encoded bytes, and their name for messages


def thumbnail(data: bytes, where: str, side: int) -> np.ndarray:
    """Decode an image and scale its longer side down to `side` pixels: (h, w, 3) uint8 RGB, never enlarged.

    Raises:
        ImageRefused: the bytes cannot be decoded.
    """
    return shrink(in_colour(data, where), side)


def in_colour(data: bytes, where: str) -> np.ndarray:
    """Decode an image for the eye: (h, w, 3) uint8 RGB.

    Of more than three bands, the first three are shown as red, green and blue; of two, the first is shown as grey.

    Raises:
        ImageRefused: the bytes cannot be decoded.
    """
    return as_colour(decode(data, where, None, plain=True))


def as_colour(pixels: np.ndarray) -> np.ndarray:
    """Show decoded (h, w, c) uint8 as colour: (h, w, 3) uint8 RGB; see `in_colour`."""
    if pixels.shape[2] == 3:
        return pixels
    return np.ascontiguousarray(pixels[:, :, :3] if pixels.shape[2] > 3 else np.repeat(pixels[:, :, :1], 3, axis=2))


def shrink(pixels: np.ndarray, side: int) -> np.ndarray:
    """Scale (h, w, c) uint8 so that its longer side is at most `side`; never enlarged, at least one pixel each way."""
    import cv2

    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def contact_sheet(
    rows: Sequence[Sequence[tuple[bytes, str]]], columns: int, side: int, gap: int, draw: Draw = in_colour
) -> bytes:
    """Draw images as squares in rows on white.

    Args:
        rows: of each row of the sheet, the encoded images and their names, at most `columns` of them.
        columns: width of the sheet in squares.
        side: of a square, in pixels.
        gap: right of and below each square, in pixels.
        draw: decodes a sample for the eye, (h, w, 3) uint8, where it is no image.

    Returns:
        a PNG of columns * (side + gap) by len(rows) * (side + gap) pixels.

    Raises:
        ImageRefused: bytes that cannot be decoded.
    """
    step = side + gap
    sheet = np.full((len(rows) * step, columns * step, 3), 255, dtype=np.uint8)
    for line, images in enumerate(rows):
        for column, (data, where) in enumerate(images):
            square = resize_to_square(draw(data, where), side)
            sheet[line * step : line * step + side, column * step : column * step + side] = square
    return sheet_png(sheet)


def picture_of_arrays(rows: Sequence[Sequence[np.ndarray]], side: int) -> bytes:
    """Draw decoded square images in rows without gaps.

    Args:
        rows: of each row of the picture, as many (s, s, c) uint8 images as the first row has, all of one side.
        side: in pixels to which larger images are scaled down.

    Returns:
        a PNG.
    """
    return sheet_png(np.concatenate([np.concatenate([shrink(as_colour(i), side) for i in row], 1) for row in rows]))
