"""Tar members written by hand (POSIX.1-1988, ustar): faster than `tarfile`, and without time, user or host.

A member is a header of one block of 512 bytes, the data, and zeros up to the next block; two blocks of zeros end the
archive. Numbers in the header are octal text. All members of a shard have the same owner, mode and time, so all fields
but name, size and checksum are constants.
"""

from __future__ import annotations

BLOCK = 512
END = b"\0" * (2 * BLOCK)
_ZEROS = bytes(BLOCK)
_NAME_BYTES = 100
_SIZE_LIMIT = 1 << 33  # eleven octal digits

# The fields in order: name (100), mode, user and group (8 each), size (12), time (12), checksum (8), then the rest.
_OWNER = b"0000644\0" + b"0000000\0" * 2  # mode rw-r--r--; user 0, group 0
_TIME = b"00000000000\0"  # 1970: the time of writing would change the bytes
# Type 0 (a regular file), no link; magic and version; no names of user and group; no device numbers; no prefix.
_REST = b"0" + b"\0" * 100 + b"ustar\x0000" + b"\0" * 64 + b"0000000\0" * 2 + b"\0" * 167
_CONSTANT_SUM = sum(_OWNER) + sum(_TIME) + sum(_REST) + 8 * 32  # the checksum's own field counts as eight spaces


def header(name: str, size: int) -> bytes:
    """Make the 512-byte header of a regular file.

    Args:
        name: ASCII, at most 100 characters.
        size: of the data in bytes, below 8 GiB.

    Raises:
        ValueError: ustar cannot hold the name or the size.
    """
    encoded = name.encode("ascii")
    if len(encoded) > _NAME_BYTES or size >= _SIZE_LIMIT:
        raise ValueError(f"ustar holds names of 100 characters and files below 8 GiB, not {name!r} of {size} bytes")
    length = b"%011o\0" % size
    checksum = b"%06o\0 " % (sum(encoded) + sum(length) + _CONSTANT_SUM)
    return b"".join((encoded, _ZEROS[len(encoded) : _NAME_BYTES], _OWNER, length, _TIME, checksum, _REST))


def padding(size: int) -> bytes:
    """Return the zeros that fill the last block of a member of `size` bytes."""
    return _ZEROS[: -size % BLOCK]


def member(name: str, data: bytes) -> bytes:
    """Return header, data and padding of one file; the data begin after `BLOCK` bytes."""
    return b"".join((header(name, len(data)), data, padding(len(data))))


def member_size(size: int) -> int:
    """Return the number of bytes that a file of `size` bytes takes in a tar."""
    return BLOCK + size + (-size % BLOCK)
