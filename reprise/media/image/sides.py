"""Facts beside an image: what they may hold, their encoded form, and how they follow an image that is scaled down.

Masks are PNG (one channel), boxes and poses JSON, flow is npy (float32). The encoded bytes are a function of the values
alone: nothing is compressed, so no version of a library changes them.
"""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.encode import uncompressed_png

_MOST_BOXES, _LONGEST_POSE = 10_000, 1000
_DIGITS = 9  # significant, in JSON


def encode_side(kind: str, value: Any, width: int, height: int, where: str) -> bytes:
    """Check a fact against its image and encode it.

    Args:
        kind: mask, boxes, flow or pose.
        value: mask: (h, w) uint8. boxes: rows (x0, y0, x1, y1) in pixels, x0 < x1 and y0 < y1, inside the image.
            flow: (h, w, 2) finite float32. pose: finite numbers.
        width, height: of the image in pixels.
        where: name of the image and the fact, for messages.

    Raises:
        ImageRefused: saying what does not fit.
    """
    if kind == "mask":
        return uncompressed_png(_array(value, (height, width), np.uint8, "a mask", where))
    if kind == "flow":
        flow = _array(value, (height, width, 2), np.float32, "a flow", where)
        _finite(flow, "a flow", where)
        buffer = io.BytesIO()
        np.save(buffer, flow.astype("<f4"), allow_pickle=False)
        return buffer.getvalue()
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _refused(f"a fact of the kind {kind} consists of numbers", value, where) from error
    _finite(numbers, f"a fact of the kind {kind}", where)
    if kind == "pose":
        if numbers.ndim != 1 or not 1 <= len(numbers) <= _LONGEST_POSE:
            raise _refused(f"a pose is a list of 1 to {_LONGEST_POSE} numbers", f"shape {numbers.shape}", where)
    else:
        numbers = _boxes(numbers, width, height, where)
    return json.dumps(_rounded(numbers.tolist())).encode("ascii")


def decode_side(kind: str, data: bytes, where: str) -> np.ndarray:
    """Decode what `encode_side` wrote: (h, w) uint8, (n, 4) float64, (h, w, 2) float32, or (d,) float64.

    Raises:
        ImageRefused: the bytes are something else.
    """
    try:
        if kind == "mask":
            import cv2

            mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
                raise ValueError("no PNG of one channel and 8 bits")
            return np.asarray(mask)
        if kind == "flow":
            return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
        numbers = np.array(json.loads(data), dtype=np.float64)
        return numbers.reshape(-1, 4) if kind == "boxes" else numbers
    except (ValueError, OSError) as error:
        raise ImageRefused(
            "undecodable", where=where, found=f"a {kind} that cannot be read: {error}", fix="Run `dvc repro shard`."
        ) from error


def scaled_side(kind: str, data: bytes, size: tuple[int, int], stored: tuple[int, int], where: str) -> bytes:
    """Let a fact follow its image, which is stored smaller.

    Masks and flow take the nearest pixel, since numbers of objects have no mean; boxes and flow are scaled.

    Args:
        kind: mask, boxes, flow, pose, or caption.
        data: as `encode_side` wrote it.
        size: width and height of the image.
        stored: width and height of the image as it is stored.
        where: name of the image and the fact, for messages.
    """
    if kind in ("pose", "caption") or size == stored:
        return data
    value, (width, height) = decode_side(kind, data, where), stored
    factors = np.array([width / size[0], height / size[1]])
    if kind == "boxes":
        return json.dumps(_rounded((value * np.tile(factors, 2)).tolist())).encode("ascii")
    rows = np.minimum(((np.arange(height) + 0.5) / factors[1]).astype(np.int64), size[1] - 1)
    columns = np.minimum(((np.arange(width) + 0.5) / factors[0]).astype(np.int64), size[0] - 1)
    value = value[rows][:, columns]
    if kind == "flow":
        value = (value * factors).astype(np.float32)
    return encode_side(kind, value, width, height, where)


def largest_side_bytes(length: int) -> int:
    """Return an upper bound of a fact's length in the shard: numbers in JSON may get more digits when scaled."""
    return 4 * length + 1024


def _array(value: Any, shape: tuple[int, ...], dtype: type, what: str, where: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype != dtype or value.shape != shape:
        found = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise _refused(f"{what} is an array of {np.dtype(dtype)} of the image's size, {shape}", found, where)
    return value


def _finite(numbers: np.ndarray, what: str, where: str) -> None:
    if not np.isfinite(numbers).all():
        raise _refused(f"{what} consists of finite numbers", "NaN or an infinite number", where)


def _boxes(numbers: np.ndarray, width: int, height: int, where: str) -> np.ndarray:
    if numbers.size == 0:
        return np.empty((0, 4))
    if numbers.ndim != 2 or numbers.shape[1] != 4 or len(numbers) > _MOST_BOXES:
        rule = f"boxes are at most {_MOST_BOXES} rows of four numbers (x0, y0, x1, y1)"
        raise _refused(rule, f"shape {numbers.shape}", where)
    x0, y0, x1, y1 = numbers.T
    wrong = (x0 >= x1) | (y0 >= y1) | (x0 < 0) | (y0 < 0) | (x1 > width) | (y1 > height)
    if wrong.any():
        rule = f"a box lies inside its image of {width} x {height} pixels, with x0 < x1 and y0 < y1"
        raise _refused(rule, numbers[wrong][0].tolist(), where)
    return numbers


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return 0.0 if value == 0 or not math.isfinite(value) else float(f"{value:.{_DIGITS}g}")


def _refused(rule: str, found: object, where: str) -> ImageRefused:
    return ImageRefused(rule, where=where, found=found, fix="Correct the source.")
