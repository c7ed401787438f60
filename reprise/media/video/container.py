"""What kind of film a file is, and whether all of it is there. By its bytes alone, before any library opens it.

FFmpeg opens playlists (HLS, DASH, `concat`) that name other files and addresses. Here a file is a film only if it
begins like one of the containers below, each of which holds its pictures itself, and FFmpeg is told which one it is.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from reprise.config.errors import ImageRefused

MOV, MATROSKA, AVI, MPEG_TS, MPEG_PS, FLV, OGG, ASF, Y4M = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "ogg", "asf", "yuv4mpegpipe"),
)
CONTAINERS = (MOV, MATROSKA, AVI, MPEG_TS, MPEG_PS, FLV, OGG, ASF, Y4M)
EXTENSIONS = frozenset(  # of names that claim a film
    (
        *("mp4", "m4v", "mov", "qt", "3gp", "3g2", "mj2", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg"),
        *("vob", "m2v", "m2p", "flv", "f4v", "ogv", "ogg", "ogm", "wmv", "asf", "y4m", "mxf", "rm", "rmvb", "divx"),
        *("m3u", "m3u8", "mpd", "sdp"),  # playlists: refused, not left out
    )
)
_HEAD = 1024  # bytes that are looked at
_PICTURES = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"moof", b"styp")
_MOST_BOXES = 1_000_000
_PLAYLISTS = {b"#EXTM3U": "an HLS playlist", b"<MPD": "a DASH playlist", b"ffconcat": "a list of files", b"v=0": "SDP"}
_NO_FIX = "Only films that hold their own pictures are taken in."


def claims_film(name: str) -> bool:
    """Tell whether a name is that of a film, or of a playlist, by its extension."""
    return os.path.splitext(name)[1].removeprefix(".").casefold() in EXTENSIONS


def container_of(file: BinaryIO, where: str) -> str:
    """Return the container of a film, one of `CONTAINERS`, by its first bytes.

    Args:
        file: open for reading, at any place.
        where: its name, for messages.

    Raises:
        ImageRefused: empty, or not_a_film.
    """
    file.seek(0)
    head = file.read(_HEAD)
    if not head:
        raise ImageRefused("empty", where=where, found="no bytes", fix="Remove it, or fetch it again.")
    found = _named(head)
    if found is None:
        raise ImageRefused("not_a_film", where=where, found=_looks_like(head), fix=_NO_FIX)
    return found


def _named(head: bytes) -> str | None:
    if head[4:8] in _BOXES:
        return None if head[4:8] == b"ftyp" and head[8:12] in _PICTURES else MOV
    beginnings = {
        b"\x1aE\xdf\xa3": MATROSKA,
        b"FLV\x01": FLV,
        b"OggS": OGG,
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": ASF,
        b"YUV4MPEG2 ": Y4M,
        b"\x00\x00\x01\xba": MPEG_PS,
    }
    for beginning, container in beginnings.items():
        if head.startswith(beginning):
            return container
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return AVI
    # Packets of 188 bytes, or of 192 with a time in front (Blu-ray), each with one sign.
    steps = ((0, 188), (4, 192))
    return MPEG_TS if any(set(head[first::step]) == {0x47} and len(head) > step for first, step in steps) else None


def _looks_like(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for beginning, name in _PLAYLISTS.items():
        if text.startswith(beginning) or (beginning == b"<MPD" and beginning in text):
            return f"{name}, which names other files"
    if head[4:8] == b"ftyp":
        return "a picture (AVIF or HEIC)"
    for beginning, name in ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"GIF8", "GIF"), (b"RIFF", "RIFF")):
        if head.startswith(beginning):
            return f"{name} data, which is no film"
    return f"bytes that begin with {head[:8].hex(' ')}"


def refuse_cut(file: BinaryIO, container: str, where: str) -> None:
    """Refuse a film that is shorter than its own frame says: MOV and MP4, Matroska and WebM, and AVI say it.

    Raises:
        ImageRefused: truncated.
    """
    size = file.seek(0, os.SEEK_END)
    stated = {MOV: _end_of_boxes, MATROSKA: _end_of_segment, AVI: _end_of_riff}.get(container, lambda *_: 0)(file, size)
    if stated > size:
        raise ImageRefused(
            "truncated", where=where, found=f"{size:,} of {stated:,} bytes", fix="Copy or fetch the film again."
        )


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Walk the boxes at the top (ISO/IEC 14496-12, 4.2) to the place where the last one ends."""
    at = 0
    for _ in range(_MOST_BOXES):
        if at >= size:
            break
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 0 and at:  # up to the end of the file
            return size
        if length == 1:  # the length follows, in 64 bits
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # bytes after the last box, which other readers ignore too
            return at
        at += length
    return at


def _end_of_segment(file: BinaryIO, size: int) -> int:
    """Return where the segment of a Matroska file ends (RFC 8794, 4 to 6), or 0 where it does not say it."""
    at = 0
    for _ in range(2):  # the EBML header, then the segment
        if at > size:
            return at
        file.seek(at)
        head = file.read(12)
        if not head or not head[0]:
            return 0
        identity = 9 - head[0].bit_length()
        if len(head) <= identity or not head[identity]:
            return 0
        width = 9 - head[identity].bit_length()
        length = int.from_bytes(head[identity : identity + width], "big") & ((1 << 7 * width) - 1)
        if length == (1 << 7 * width) - 1:  # a live recording: unknown
            return 0
        at += identity + width + length
    return at


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """Return where the first RIFF chunk ends; recordings that were never closed state nothing (0)."""
    file.seek(4)
    length = int.from_bytes(file.read(4), "little")
    return 8 + length if length else 0
