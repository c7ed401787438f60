"""Why bytes are refused: the decoders' complaints in the quarantine's words.

The decoders are C libraries and Pillow's parsers, and they raise anything on hostile bytes. Nothing of that may reach a
user as a traceback, so each failure becomes an ImageRefused with one of a few reason codes, which
docs/reference/data-rules.md explains.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from reprise.config.errors import ImageRefused

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
FIX_KIND = "Convert it to grey or RGB of 8 or 16 bits, or to a TIFF of bands."
FIX_FILE = "Repair or remove the file, then run again."
_FIX_FORMAT = "Convert it to JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC (unpack an archive), or remove it."
_NO_MEMORY = "out of memory"
_TRUNCATION_WORDS = (  # in decoders' messages
    "truncated",
    "not enough image data",
    "unexpected end",
    "incomplete",
    "outside of file bounds",
    "beyond the end",
    "ends too early",
)
_SIGNATURES = ((JPEG_SIGNATURE, "JPEG"), (b"\x89PNG", "PNG"), (b"GIF8", "GIF"))
_OTHER_SIGNATURES = (  # in lower case, as `looks_like` compares them
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


class Truncated(ValueError):
    """A file ends before what it announces."""


class Unsupported(ValueError):
    """A sound file of a kind that is not read here."""


@contextmanager
def decoder_errors(where: str, file_format: str, data: bytes) -> Iterator[None]:
    """Turn whatever a decoder raises inside the `with` block into ImageRefused, and silence its warnings.

    Args:
        where: name of the file, for messages.
        file_format: format that the decoder believes in, for messages.
        data: the encoded file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except ImageRefused as refusal:
            if refusal.where:
                raise
            # Readers do not know the name of the file.
            raise ImageRefused(refusal.what, where=where, found=refusal.found, fix=refusal.fix) from refusal
        except MemoryError:  # of the machine, not of the file
            raise
        except Exception as error:
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            if message.startswith(_NO_MEMORY):  # likewise, as Pillow says it
                raise MemoryError from error
            if isinstance(error, Unsupported):
                raise ImageRefused(
                    "unsupported_depth", where=where, found=f"{file_format}: {message}", fix=FIX_KIND
                ) from error
            reason = "truncated" if isinstance(error, Truncated) else damage(message, data)
            raise ImageRefused(reason, where=where, found=f"{file_format}: {message}", fix=FIX_FILE) from error


def damage(message: str, data: bytes) -> str:
    """Choose between the reasons `truncated` and `undecodable`.

    Args:
        message: complaint of the decoder.
        data: the encoded file. The header of a WebP states its length, which says more than libwebp's messages.
    """
    if data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        return "truncated"
    return "truncated" if any(words in message.lower() for words in _TRUNCATION_WORDS) else "undecodable"


def unidentified(data: bytes, where: str) -> ImageRefused:
    """Describe bytes in which Pillow recognises no image: a damaged header, or another kind of file."""
    file_format = picture_format(data)
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        file_format = "AVIF"
    if file_format is None:
        return ImageRefused("not_an_image", where=where, found=looks_like(data), fix=_FIX_FORMAT)
    return ImageRefused(damage("", data), where=where, found=f"{file_format}: its header is damaged", fix=FIX_FILE)


def picture_format(data: bytes) -> str | None:
    """Return the format of pictures whose signature a file begins with; None for any other."""
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def looks_like(data: bytes) -> str:
    """Name what a file appears to be by its first bytes, for the sentence in the quarantine."""
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for signature, name in _OTHER_SIGNATURES:
        if start.startswith(signature):
            return "an SVG drawing" if b"<svg" in start else name
    if data[128:132] == b"DICM":
        return "a DICOM file, which the source `dicom` reads"
    if data[4:8] == b"ftyp":
        return "a video file, or a picture of no known brand"
    return "bytes of no known image format" if b"\0" in data[:512] else "text or other data"
