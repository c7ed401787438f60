"""What an encoded image is to Reprise: which bytes are taken in, and which pixels they stand for.

One set of rules (docs/data-rules.md) for every stage: EXIF orientation is applied; transparency is laid over
white; palettes become RGB; 16-bit grey is divided by 257; CMYK is converted by Pillow; of several frames or
pages the first counts. `channels=1` is the luma of ITU-R BT.601, `channels=3` repeats grey.

An image is *plain* when these rules have nothing to do: 8-bit grey or RGB, upright, one frame, JPEG, PNG or
WebP, and OpenCV and Pillow decode the same pixels. Plain bytes take the fast decoder (OpenCV) from then on.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from reprise.config.errors import ImageRefused

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif", "GIF": "gif"}
MAX_PIXELS = 50_000_000
PLAIN_FORMATS = ("JPEG", "PNG", "WEBP")
_GREY, _GREY_ALPHA, _GREY_16 = ("1", "L"), ("LA", "La"), ("I;16", "I;16L", "I;16B", "I;16N")
_COLOUR, _COLOUR_ALPHA = ("RGB", "CMYK", "YCbCr", "RGBX", "P"), ("RGBA", "RGBa", "PA")
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation -> PIL.Image.Transpose
_PNG = b"\x89PNG\r\n\x1a\n"
_CUT = ("truncated", "not enough image data", "unexpected end", "incomplete")
_SIGNATURES = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"GIF8", "GIF"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"))
_LOOKS = (
    (b"<svg", "an SVG drawing"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML file"),
    (b"%pdf", "a PDF file"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\0\0\0\x0cjp  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\0\x0cjxl ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"8bps", "a Photoshop file"),
    (b"%!ps", "a PostScript file"),
    (b"\0\0\1\0", "an icon"),
)
_FIX_FILE = "Mend or remove the file, then run again."
_SUBFILE, _DNG, _REDUCED = 254, 50706, 1  # TIFF tags, and the bit that says "a smaller version of another page"
_LONGEST = 32  # times the shorter side: what lies beyond is cut off before `square` scales, not after


@dataclass(frozen=True)
class Inspection:
    """What full decoding found.

    Attributes:
        format: one of FORMATS, by content and not by name.
        width, height: pixels, upright. channels: 1 (grey) or 3 (colour), after the rules.
        plain: the bytes need none of the rules; any decoder shows the same pixels.
    """

    format: str
    width: int
    height: int
    channels: int
    plain: bool


def inspect(data: bytes, where: str, max_pixels: int = MAX_PIXELS, min_side: int = 1) -> Inspection:
    """Decode an image fully and say what it is.

    Args:
        data: the encoded file. where: its name, for messages.
        max_pixels: larger images are refused by their header, before any pixel is decoded.
        min_side: images with a smaller side, in pixels, are refused.

    Raises:
        ImageRefused: `what` is the reason code of the quarantine: empty, not_an_image, truncated, undecodable,
            too_many_pixels, too_small, unsupported_depth.
    """
    image = _open(data, where, max_pixels)
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    with _Explained(where, kind, data):
        frames = int(getattr(image, "n_frames", 1))
        pixels = _pixels(image, where)
    height, width = pixels.shape[:2]
    if min(height, width) < min_side:
        raise ImageRefused(
            "too_small",
            where=where,
            found=f"{width} x {height} pixels",
            fix=f"Images need at least {min_side} pixels a side (source.min_side).",
        )
    plain = kind in PLAIN_FORMATS and image.format != "MPO" and frames == 1 and _needs_no_rule(image, data)
    if plain:
        fast = _decode_plain(data)
        plain = fast is not None and fast.shape == pixels.shape and bool(np.array_equal(fast, pixels))
    return Inspection(kind, width, height, 1 if pixels.ndim == 2 else 3, plain)


def decode(data: bytes, where: str, channels: int = 3, max_pixels: int = MAX_PIXELS, plain: bool = False) -> np.ndarray:
    """Decode an image by the rules above.

    Args:
        data: the encoded file. where: its name, for messages.
        channels: 1 or 3.
        plain: the bytes are known to be plain (everything in shards is): decode with OpenCV.

    Returns:
        (height, width, channels) uint8.

    Raises:
        ImageRefused: the bytes cannot be decoded.
    """
    pixels = _decode_plain(data) if plain else None
    if pixels is None:
        image = _open(data, where, max_pixels)
        with _Explained(where, str(image.format), data):
            pixels = _pixels(image, where)
    return as_channels(pixels, channels)


def as_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Grey (h, w) or RGB (h, w, 3) uint8 as (h, w, channels) uint8, channels 1 or 3."""
    import cv2

    if channels == 1:
        return (pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[:, :, None]
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def stored_png(pixels: np.ndarray) -> bytes:
    """PNG without compression: the same pixels give the same bytes with every version of every library.

    Sources that make files from arrays use it, because keys are hashes of these bytes.

    Args:
        pixels: (h, w) or (h, w, 3) uint8.
    """
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    pieces = [raw[i : i + 65535] for i in range(0, len(raw), 65535)]
    blocks = b"".join(
        struct.pack("<BHH", i == len(pieces) - 1, len(piece), len(piece) ^ 0xFFFF) + piece
        for i, piece in enumerate(pieces)
    )
    stream = b"\x78\x01" + blocks + struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b""))
    return _PNG + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def compressed_png(pixels: np.ndarray) -> bytes:
    """Lossless PNG of (h, w, 1) or (h, w, 3) uint8, as shards store what they cannot keep."""
    import cv2

    shown = pixels[:, :, 0] if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", shown, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1].tobytes()


def square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Scale the shorter side to `size` (area when shrinking, cubic when growing) and cut the centre.

    Of strips longer than 32 times their width, only the central part is scaled: the whole may take gigabytes.

    Args:
        pixels: (h, w, c) uint8. size: side in pixels.

    Returns:
        (size, size, c) uint8.
    """
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return pixels
    if max(height, width) > (longest := _LONGEST * min(height, width)):
        top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
        pixels = pixels[top : top + longest, left : left + longest]
        height, width = pixels.shape[:2]
    return centre(resize(pixels, *_cover(width, height, size)), size)


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """(h, w, c) uint8 scaled to (height, width, c): area when shrinking, cubic when growing."""
    import cv2

    shrinks = width < pixels.shape[1] or height < pixels.shape[0]
    scaled = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return scaled.reshape(height, width, pixels.shape[2])


def centre(pixels: np.ndarray, size: int) -> np.ndarray:
    """The central (size, size, c) of (h, w, c), both sides at least `size`."""
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]


def _cover(width: int, height: int, size: int) -> tuple[int, int]:
    shorter = min(width, height)
    return max(size, round(width * size / shorter)), max(size, round(height * size / shorter))


class _Explained:
    """Turn whatever a decoder raises on hostile bytes into ImageRefused; library warnings are not for users."""

    def __init__(self, where: str, kind: str, data: bytes) -> None:
        self._where, self._kind, self._data = where, kind, data

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        self._warnings.__exit__(None, None, None)
        if error is None or isinstance(error, ImageRefused) or not isinstance(error, Exception):
            return
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageRefused(
            _damage(said, self._data), where=self._where, found=f"{self._kind}: {said}", fix=_FIX_FILE
        ) from error


def _open(data: bytes, where: str, max_pixels: int) -> Any:
    """A lazily opened Pillow image whose header promises at most `max_pixels`."""
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageRefused("empty", where=where, found="0 bytes", fix=_FIX_FILE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageRefused(
            "too_many_pixels", where=where, found=str(error).rstrip("."), fix="Scale it down (source.max_pixels)."
        ) from error
    except UnidentifiedImageError as error:
        kind = next((name for sign, name in _SIGNATURES if data.startswith(sign)), None)
        if kind is None:
            raise ImageRefused("not_an_image", where=where, found=_looks_like(data), fix=_FIX_FILE) from error
        raise ImageRefused(
            _damage("", data), where=where, found=f"{kind}: its header is damaged", fix=_FIX_FILE
        ) from error
    except Exception as error:  # Pillow's parsers raise anything on hostile headers
        said = str(error) or type(error).__name__
        raise ImageRefused(_damage(said, data), where=where, found=said, fix=_FIX_FILE) from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageRefused(
            "too_many_pixels",
            where=where,
            found=f"{width} x {height} pixels",
            fix=f"The limit is {max_pixels} pixels (source.max_pixels).",
        )
    if width < 1 or height < 1:
        raise ImageRefused("undecodable", where=where, found=f"{width} x {height} pixels", fix=_FIX_FILE)
    with _Explained(where, str(image.format), data):
        preview = image.format == "TIFF" and _is_preview(image)
    if preview:
        raise ImageRefused(
            "not_an_image",
            where=where,
            found="a camera's raw file, or a TIFF that begins with a small version of its image",
            fix="Convert it to JPEG, PNG or TIFF.",
        )
    return image


def _is_preview(image: Any) -> bool:
    """Whether the first page of a TIFF is not the picture itself: what Pillow shows of raw files is their thumbnail."""
    kind = image.tag_v2.get(_SUBFILE, 0)
    return _DNG in image.tag_v2 or (isinstance(kind, int) and bool(kind & _REDUCED))


def _damage(said: str, data: bytes) -> str:
    """truncated or undecodable, from what a decoder said and, for WebP, from the length that its header promises."""
    if data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        return "truncated"
    return "truncated" if any(words in said.lower() for words in _CUT) else "undecodable"


def _looks_like(data: bytes) -> str:
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for sign, name in _LOOKS:
        if start.startswith(sign):
            return "an SVG drawing" if b"<svg" in start else name
    if data[4:8] == b"ftyp":
        return "an HEIC, AVIF or video file"
    return "bytes of no known image format" if b"\0" in data[:512] else "text or other data"


def _pixels(image: Any, where: str) -> np.ndarray:
    """All pixels of an opened image by the rules: (h, w) or (h, w, 3) uint8."""
    from PIL import Image

    image.load()
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))  # read after loading: Pillow turns TIFFs itself
    mode = image.mode
    transparent = mode in (*_GREY_ALPHA, *_COLOUR_ALPHA) or "transparency" in image.info
    if mode in _GREY_16:
        values = np.asarray(image if turn is None else image.transpose(Image.Transpose(turn))).astype(np.uint32)
        return ((values + 128) // 257).astype(np.uint8)
    if mode not in (*_GREY, *_GREY_ALPHA, *_COLOUR, *_COLOUR_ALPHA):
        raise ImageRefused(
            "unsupported_depth", where=where, found=f"pixel type {mode}", fix="Convert it to 8 or 16 bits a channel."
        )
    grey = mode in (*_GREY, *_GREY_ALPHA)
    if transparent:
        layer = image.convert("RGBA")
        image_over = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        image_over.alpha_composite(layer)
        result = image_over.convert("RGB")
        result = result.getchannel("R") if grey else result
    else:
        result = image.convert("L" if grey else "RGB")
    return np.array(result if turn is None else result.transpose(Image.Transpose(turn)), dtype=np.uint8)


def _needs_no_rule(image: Any, data: bytes) -> bool:
    upright = image.getexif().get(_ORIENTATION, 1) == 1
    eight_bits = image.format != "PNG" or data[24:25] == b"\x08"
    return upright and eight_bits and image.mode in ("L", "RGB") and "transparency" not in image.info


def _chunks_fit(png: bytes) -> bool:
    """Whether the chunks of a PNG lie inside the file, up to its IEND."""
    at = len(_PNG)
    while at + 12 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        at += 12 + length
        if name == b"IEND":
            return at <= len(png)
    return False


def _decode_plain(data: bytes) -> np.ndarray | None:
    """OpenCV's view of the bytes: (h, w) grey, (h, w, 3) RGB, or None if it has none."""
    import cv2

    if data.startswith(_PNG) and not _chunks_fit(data):  # OpenCV 5.0 searches for minutes in a chunk that ends nowhere
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.uint8:
        return None
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels.shape[2] == 3 else None
