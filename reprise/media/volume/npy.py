"""`.npy` files: the header is read within limits before anything is allocated, and nothing is ever unpickled.

Source: NumPy Enhancement Proposal 1 and `numpy/lib/format.py`: magic, two bytes of version, the length of the header,
and a Python literal with `descr`, `fortran_order` and `shape`; then the values without gaps.
"""

from __future__ import annotations

import ast
import struct
from typing import Any

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.readers.raster import CONVERTED
from reprise.media.modality import Limits
from reprise.media.volume.fields import NPY_MAGIC
from reprise.media.volume.raster import KINDS, Block, checked_shape, truncated, undecodable, unsupported

_LONGEST_HEADER = 1 << 12  # bytes; that of a plain array has 118
_ENTRIES = {"descr", "fortran_order", "shape"}


def read_npy(data: bytes, where: str, limits: Limits | None) -> Block:
    """Read a whole `.npy` file.

    Args:
        data: the file, which begins with the magic.
        where: its name, for messages.
        limits: of the data set; None for a file that was inspected already.

    Raises:
        ImageRefused: truncated, undecodable, unsupported_depth, other_dimensions, too_small or too_many_pixels.
    """
    header, begin = _header(data, where)
    kind = _kind(header["descr"], where)
    shape = checked_shape(_shape(header["shape"], where), where, limits)
    count = int(np.prod(shape, dtype=np.int64))
    needed, present = count * kind.itemsize, len(data) - begin
    if present < needed:
        raise truncated(where, f"{present} bytes of values, and the header promises {needed}")
    if present > needed:
        raise undecodable(where, f"{present - needed} bytes after the {needed} that the header promises")
    values = np.frombuffer(data, kind, count, begin)
    given = tuple(header["shape"])
    values = values.reshape(given, order="F" if header["fortran_order"] else "C").reshape(shape)
    if kind.kind == "b":
        shades = values.astype(np.uint8) * np.uint8(255)
        return Block(shades, "NPY", changes={CONVERTED: "false and true became 0 and 255"})
    return Block(np.ascontiguousarray(values, kind.newbyteorder("=")), "NPY")


def written_npy(values: np.ndarray) -> bytes:
    """Write (D, H, W, C) uint8 as `.npy`: the same bytes for the same values with every version of NumPy.

    The header is that of NumPy's own writer, version 1.0, padded to a multiple of 64 bytes.
    """
    assert values.dtype == np.uint8
    assert values.ndim == 4
    entries = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {values.shape}, }}"
    padding = -(len(NPY_MAGIC) + 4 + len(entries) + 1) % 64
    header = (entries + " " * padding + "\n").encode("ascii")
    return NPY_MAGIC + b"\x01\x00" + struct.pack("<H", len(header)) + header + np.ascontiguousarray(values).tobytes()


def _header(data: bytes, where: str) -> tuple[dict[str, Any], int]:
    """Read the header: its entries, and where the values begin."""
    if len(data) < 10:
        raise truncated(where, f"{len(data)} bytes")
    version = data[6]
    if version not in (1, 2, 3):
        raise undecodable(where, f"version {version} of the format, and there are 1 to 3")
    size_bytes = 2 if version == 1 else 4
    length = int.from_bytes(data[8 : 8 + size_bytes], "little")
    begin = 8 + size_bytes + length
    if length > _LONGEST_HEADER:
        raise undecodable(where, f"a header of {length} bytes, and that of an array has at most {_LONGEST_HEADER}")
    if len(data) < begin:
        raise truncated(where, f"{len(data)} bytes, and the header ends at {begin}")
    try:
        entries = ast.literal_eval(data[8 + size_bytes : begin].decode("utf-8" if version == 3 else "latin-1").strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise undecodable(where, f"a header that is no literal ({type(error).__name__})") from error
    if not isinstance(entries, dict) or set(entries) != _ENTRIES or not isinstance(entries["fortran_order"], bool):
        raise undecodable(where, "a header without descr, fortran_order and shape")
    return entries, begin


def _kind(described: Any, where: str) -> np.dtype[Any]:
    """Return the type of the values; objects, texts, dates and structures are refused by their names."""
    if not isinstance(described, str):
        raise unsupported(where, "a structure of several values at each place")
    if described[:1] not in "<>=|" or described[1:] not in KINDS:
        raise unsupported(where, f"values of the type {described[:20]!a}")
    return np.dtype(described)


def _shape(stated: Any, where: str) -> tuple[int, ...]:
    whole = isinstance(stated, tuple) and all(type(side) is int and 0 <= side < 1 << 40 for side in stated)
    if not whole or len(stated) > 32:
        raise ImageRefused("undecodable", where=where, found="a shape that is none", fix="Write the array again.")
    return tuple(stated)
