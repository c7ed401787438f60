"""Captions in files and in shards: UTF-8, a line each. A text with line breaks is no caption, so nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence

from reprise.config.errors import ImageRefused
from reprise.media.text.rules import problem_of_captions

MOST_BYTES = 1 << 20  # of a file of captions: no permitted ones are longer
_BOM = b"\xef\xbb\xbf"


def encode_captions(texts: Sequence[str]) -> bytes:
    """Return the form in shards: each caption and a line break."""
    return "".join(f"{text}\n" for text in texts).encode("utf-8")


def decode_captions(data: bytes, where: str) -> tuple[str, ...]:
    """Read captions from a file: each line that is not blank is one, without spaces at its ends.

    A byte-order mark and the line breaks of Windows are no part of a caption.

    Raises:
        ImageRefused: bad_caption, for bytes that are not UTF-8, no text at all, or a text that breaks a rule.
    """
    try:
        lines = data.removeprefix(_BOM).decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        found = f"byte {error.start + 1:,} is not UTF-8"
        raise ImageRefused("bad_caption", where=where, found=found, fix="Save it as UTF-8.") from error
    texts = tuple(line.strip() for line in lines if line.strip())
    problem = problem_of_captions(texts) if texts else "it holds no text"
    if problem:
        raise ImageRefused("bad_caption", where=where, found=problem, fix="Correct or remove it.")
    return texts
