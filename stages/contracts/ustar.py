"""Plain tar members by hand (POSIX ustar): several times faster than `tarfile`, and free of time, user and host."""

from __future__ import annotations

BLOCK = 512
END = b"\0" * (2 * BLOCK)


def header(name: str, size: int) -> bytes:
    """The 512-byte header of a regular file.

    Args:
        name: ASCII, at most 100 characters. size: bytes, below 8 GiB.
    """
    encoded = name.encode("ascii")
    if len(encoded) > 100 or size >= 1 << 33:
        raise ValueError(f"ustar holds names of 100 characters and files below 8 GiB, not {name!r} of {size} bytes")
    start = encoded.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0"
    rest = b"0" + b"\0" * 100 + b"ustar\x0000" + b"\0" * 64 + b"0000000\0" * 2 + b"\0" * 167
    checksum = sum(start) + sum(rest) + 8 * 32  # its own field counts as spaces
    return start + b"%06o\0 " % checksum + rest


def padding(size: int) -> bytes:
    """Zeros that fill the last block of a member of `size` bytes."""
    return b"\0" * (-size % BLOCK)


def member(name: str, data: bytes) -> bytes:
    """Header, data and padding of one file; its data start `BLOCK` bytes in."""
    return header(name, len(data)) + data + padding(len(data))


def member_size(size: int) -> int:
    """Bytes that a file of `size` bytes takes in a tar."""
    return BLOCK + size + (-size % BLOCK)
