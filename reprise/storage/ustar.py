"""Plain tar members by hand (POSIX ustar): several times faster than `tarfile`, and free of time, user and host."""

from __future__ import annotations

BLOCK = 512
END = b"\0" * (2 * BLOCK)
_ZEROS = bytes(BLOCK)

_OWNER = b"0000644\0" + b"0000000\0" * 2
_TIME = b"00000000000\0"
_REST = b"0" + b"\0" * 100 + b"ustar\x0000" + b"\0" * 64 + b"0000000\0" * 2 + b"\0" * 167
_CONSTANT_SUM = sum(_OWNER) + sum(_TIME) + sum(_REST) + 8 * 32  # the checksum's own field counts as spaces


def header(name: str, size: int) -> bytes:
    """The 512-byte header of a regular file.

    Args:
        name: ASCII, at most 100 characters. size: bytes, below 8 GiB.

    Raises:
        ValueError: ustar cannot hold the name or the size.
    """
    encoded = name.encode("ascii")
    if len(encoded) > 100 or size >= 1 << 33:
        raise ValueError(f"ustar holds names of 100 characters and files below 8 GiB, not {name!r} of {size} bytes")
    length = b"%011o\0" % size
    checksum = b"%06o\0 " % (sum(encoded) + sum(length) + _CONSTANT_SUM)
    return b"".join((encoded, _ZEROS[len(encoded) : 100], _OWNER, length, _TIME, checksum, _REST))


def padding(size: int) -> bytes:
    """Zeros that fill the last block of a member of `size` bytes."""
    return _ZEROS[: -size % BLOCK]


def member(name: str, data: bytes) -> bytes:
    """Header, data and padding of one file; its data start `BLOCK` bytes in."""
    return b"".join((header(name, len(data)), data, padding(len(data))))


def member_size(size: int) -> int:
    """Bytes that a file of `size` bytes takes in a tar."""
    return BLOCK + size + (-size % BLOCK)
