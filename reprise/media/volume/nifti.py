"""NIfTI files, `.nii` and `.nii.gz`, through nibabel (extra `nifti`): turned to one orientation, with their spacing.

The header is checked before nibabel sees the file. Axes are turned to the closest of right, anterior, superior (RAS+),
so that depth runs from inferior to superior, height from posterior to anterior, and width from left to right. The
scale and offset of the values (`scl_slope`, `scl_inter`) are applied. Nothing else of the header is kept: descriptions,
names and dates may identify a person.

Source: the NIfTI-1 and NIfTI-2 headers, nifti.nimh.nih.gov; nibabel's documentation of `as_closest_canonical`.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import Any

import numpy as np

from reprise.config.errors import ImageRefused, MachineError
from reprise.media.image.readers.raster import TURNED
from reprise.media.modality import Limits
from reprise.media.volume.fields import GZIP_MAGIC
from reprise.media.volume.raster import Block, checked_shape, truncated, undecodable, unsupported

_HEADERS = {348: (b"n+1\0", 344), 540: (b"n+2\0\r\n\x1a\n", 4)}  # bytes of the header -> magic, and where it stands
_PAIRS = (b"ni1\0", b"ni2\0\r\n\x1a\n")  # of headers whose values lie in a second file
_LONGEST_EXTENSIONS = 1 << 20  # bytes between the header and the values
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_OTHER_TYPES = {1: "single bits", 32: "complex numbers", 128: "RGB", 1536: "128-bit floats", 1792: "complex numbers",
                2048: "complex numbers", 2304: "RGBA"}  # fmt: skip
SCALED = "scaled"  # code of a change
_HEADER_BYTES = 541  # of the longest header, and one: what follows is not looked at here
_PIECE = 1 << 16  # bytes unpacked to look at the header


def begins_like_nifti(data: bytes) -> bool:
    """Return whether bytes begin with a NIfTI header, as they are or compressed by gzip."""
    start = _beginning(data)
    return any(
        len(start) > size and start[:4] in (struct.pack("<i", size), struct.pack(">i", size)) for size in _HEADERS
    )


def read_nifti(data: bytes, where: str, limits: Limits | None) -> Block:
    """Read a whole NIfTI file.

    Args:
        data: the file.
        where: its name, for messages.
        limits: of the data set; None for a file that was inspected already.

    Raises:
        ImageRefused: truncated, undecodable, unsupported_depth, other_dimensions, too_small or too_many_pixels.
        MachineError: nibabel is not installed.
    """
    packed = data[:2] == GZIP_MAGIC
    shape, begin, kind = _promised(_beginning(data), where)
    checked_shape(shape, where, limits)
    needed = begin + int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
    if packed:
        data = _unpacked(data, needed + 1, where)
    if len(data) < needed:
        raise truncated(where, f"{len(data)} bytes, and the header promises {needed}")
    if len(data) > needed:
        raise undecodable(where, f"more than the {needed} bytes that the header promises")
    image, nibabel = _opened(data, where)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        upright = nibabel.as_closest_canonical(image)
        values = np.asanyarray(upright.dataobj)
        spacing = [abs(float(size)) for size in upright.header.get_zooms()[:3]]
    axes = "".join(nibabel.aff2axcodes(image.affine))
    changes = {} if axes == "RAS" else {TURNED: f"its axes {axes} were turned to RAS"}
    slope, offset = image.dataobj.slope, image.dataobj.inter
    if (slope, offset) != (1.0, 0.0):
        changes[SCALED] = f"its values were multiplied by {slope:g}, and {offset:g} was added, as the header says"
    values = values.reshape(*values.shape[:3], -1).transpose(2, 1, 0, 3)
    known = _states_spacing(data) and all(np.isfinite(size) and size > 0 for size in spacing)
    return Block(
        np.ascontiguousarray(values, values.dtype.newbyteorder("=")),
        "NIFTI_GZ" if packed else "NIFTI",
        (spacing[2], spacing[1], spacing[0]) if known else None,
        changes,
    )


def _beginning(data: bytes) -> bytes:
    """Return the first bytes of the file, unpacked."""
    if data[:2] != GZIP_MAGIC:
        return data[:_PIECE]
    try:
        return zlib.decompressobj(wbits=31).decompress(data[:_PIECE], _HEADER_BYTES)
    except zlib.error:
        return b""


def _promised(start: bytes, where: str) -> tuple[tuple[int, ...], int, str]:
    """Read shape, begin of the values and their type from the header.

    Raises:
        ImageRefused: the header contradicts itself, or promises values that are not read.
    """
    order = "<" if struct.unpack("<i", start[:4])[0] in _HEADERS else ">"
    size = struct.unpack(f"{order}i", start[:4])[0]
    if len(start) < size:
        raise truncated(where, f"{len(start)} bytes of a header of {size}")
    magic, place = _HEADERS[size]
    if start[place : place + len(magic)] in _PAIRS:
        raise undecodable(where, "the header of a pair, whose values lie in a second file (.img)")
    if start[place : place + len(magic)] != magic:
        raise undecodable(where, "a header without the magic of NIfTI")
    if size == 348:
        dims, kind = struct.unpack_from(f"{order}8h", start, 40), struct.unpack_from(f"{order}h", start, 70)[0]
        begin = struct.unpack_from(f"{order}f", start, 108)[0]
    else:
        dims, kind = struct.unpack_from(f"{order}8q", start, 16), struct.unpack_from(f"{order}h", start, 12)[0]
        begin = struct.unpack_from(f"{order}q", start, 168)[0]
    if not 1 <= dims[0] <= 7 or min(dims[1 : dims[0] + 1]) < 1:
        raise undecodable(where, f"the dimensions {dims[: min(8, max(1, dims[0] + 1))]}")
    if kind not in _TYPES:
        raise unsupported(where, _OTHER_TYPES.get(kind, f"values of the unknown type {kind}"))
    if not size <= begin <= size + _LONGEST_EXTENSIONS:  # not a number fails, too
        raise undecodable(where, f"values that begin at {begin}")
    shape = tuple(int(side) for side in dims[1 : dims[0] + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 4 and set(shape[3:-1]) == {1}:  # a vector at each place: the fourth dimension is time
        shape = (*shape[:3], shape[-1])
    return shape, int(begin), _TYPES[kind]


def _unpacked(data: bytes, most: int, where: str) -> bytes:
    """Unpack gzip up to `most` bytes; a file that goes on beyond them is refused.

    Raises:
        ImageRefused: damaged, too short, or longer than its own header promises (a decompression bomb).
    """
    unpacker = zlib.decompressobj(wbits=31)
    try:
        found = unpacker.decompress(data, most)
    except zlib.error as error:
        raise undecodable(where, f"gzip: {error}") from error
    if len(found) >= most:
        raise undecodable(where, f"more than the {most - 1} bytes that the header promises")
    if not unpacker.eof:
        raise truncated(where, f"gzip that ends after {len(found)} bytes")
    if unpacker.unused_data.strip(b"\0"):  # padding is permitted behind gzip
        raise undecodable(where, f"{len(unpacker.unused_data)} bytes after the end of the gzip")
    return found


def _states_spacing(data: bytes) -> bool:
    """Tell whether the header states three distances; nibabel puts 1 in the place of 0."""
    order = "<" if struct.unpack("<i", data[:4])[0] in _HEADERS else ">"
    is_first = struct.unpack(f"{order}i", data[:4])[0] == 348
    return all(struct.unpack_from(f"{order}3f" if is_first else f"{order}3d", data, 80 if is_first else 112))


def _opened(data: bytes, where: str) -> tuple[Any, Any]:
    """Open a file whose header is sound, and return it with nibabel."""
    try:
        import nibabel
    except ImportError as error:
        raise MachineError(
            "NIfTI files are read by the package nibabel",
            where=where,
            found="it is not installed",
            fix="Install it: `pip install 'reprise[nifti]'`; or convert the volumes to .npy.",
        ) from error
    kind = nibabel.Nifti1Image if struct.unpack("<i", data[:4])[0] in (348, 1543569408) else nibabel.Nifti2Image
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = kind.from_bytes(data)
            if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) == 0.0:
                raise ValueError("an orientation that is none")
            return image, nibabel
    except MemoryError:
        raise
    except Exception as error:  # nibabel's checks raise anything on hostile headers
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise ImageRefused("undecodable", where=where, found=f"NIfTI: {message}", fix="Repair or remove it.") from error
