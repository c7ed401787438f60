"""A safetensors file from anywhere: its header is checked against bounds before any of its data is read.

The header is a length (eight bytes, little-endian) and that many bytes of JSON: for each tensor its type, its shape and
where its data lie. Nobody else's header may cost more than its own length: all numbers in it are checked here, and the
caller compares the shapes with the network that they are for before `read` takes memory for them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import load, save

from reprise.config.errors import BackboneError, ImageRefused
from reprise.storage.atomic import atomic_file
from reprise.storage.listing import open_regular
from reprise.storage.system.machine import fault_behind

FOREIGN = "the weights cannot be read"
_LONGEST_HEADER = 8 << 20  # bytes; a network of 10,000 tensors needs one megabyte
_MOST_AXES = 8
_COPIES = 3  # of the data in memory at the same time: the file's bytes, the arrays, the network
_CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")
_LARGEST_FILE = 32 << 30  # bytes; the largest network of timm has 18 GB
_BRAIN = "BF16"  # half-precision numbers without a type in NumPy: read as float32, and only where asked for
_BYTES = {  # type -> bytes of one value; what NumPy has no type for (BF16, F8) is refused
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
}
_NUMPY = {name: f"{name[0].lower()}{size}" for name, size in _BYTES.items() if name != "BOOL"} | {"BOOL": "?"}


@dataclass(frozen=True)
class TensorFacts:
    """What the header says of one tensor.

    Attributes:
        dtype: safetensors' name of the type ("F32").
        shape: the length of each axis.
    """

    dtype: str
    shape: tuple[int, ...]


class TensorFile:
    """A safetensors file whose header is sound.

    Attributes:
        path: the file.
        tensors: what the header says, by name.
    """

    def __init__(self, path: Path, tensors: dict[str, TensorFacts], header: bytes, what: str, fix: str) -> None:
        self.path, self.tensors = path, tensors
        self._header, self._what, self._fix = header, what, fix

    @classmethod
    def open(cls, path: str | Path, fix: str, what: str = FOREIGN, *, half: bool = False) -> TensorFile:
        """Read and check the header.

        Args:
            path: the file.
            fix: the last sentence of the message where the file cannot be read.
            what: the mistake in that message.
            half: whether bfloat16 is read too, which NumPy does not have: as float32.

        Raises:
            BackboneError: missing, not a regular file, truncated, not safetensors, or larger than any network.
        """
        path = Path(path)
        try:
            with open_regular(path) as descriptor:
                size = os.fstat(descriptor).st_size
                header = _header(descriptor, size)
            return cls(path, _tensors(header, size - len(header), half), header, what, fix)
        except (OSError, ImageRefused, ValueError, RecursionError) as error:
            if isinstance(error, OSError) and (fault := fault_behind(error, path)) is not None:
                raise fault from error
            raise _unreadable(path, error, what, fix) from error

    def read(self) -> dict[str, np.ndarray]:
        """Read all tensors; no pickle is involved.

        Raises:
            BackboneError: the file changed since its header was read, values are not finite, or memory is short.
        """
        try:
            with open_regular(self.path) as descriptor:
                size = os.fstat(descriptor).st_size
                if size * _COPIES > memory_bytes():
                    raise ValueError(f"{size} bytes of data, and {memory_bytes()} bytes of memory for {_COPIES} copies")
                data = _exactly(descriptor, size)
            if not data.startswith(self._header):
                raise ValueError("another header than a moment ago")
            arrays = load(data) if all(t.dtype != _BRAIN for t in self.tensors.values()) else _load_half(data)
        except (OSError, ImageRefused, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, OSError) and (fault := fault_behind(error, self.path)) is not None:
                raise fault from error
            raise _unreadable(self.path, error, self._what, self._fix) from error
        except MemoryError as error:
            raise _unreadable(self.path, "more data than there is memory", self._what, self._fix) from error
        for name, value in arrays.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                bad = int((~np.isfinite(value)).sum())
                raise _unreadable(self.path, f"{bad} values of {name} are not finite", self._what, self._fix)
        return arrays


def _unreadable(path: Path, error: object, what: str, fix: str) -> BackboneError:
    found = error.found if isinstance(error, ImageRefused) else error
    return BackboneError(what, where=path, found=str(found) or type(found).__name__, fix=fix)


def _header(descriptor: int, size: int) -> bytes:
    """Read the length and the JSON behind it."""
    if size > _LARGEST_FILE:
        raise ValueError(f"{size} bytes, and no network has more than {_LARGEST_FILE}")
    length = int.from_bytes(_exactly(descriptor, 8), "little")
    if length > min(size - 8, _LONGEST_HEADER):
        raise ValueError(f"a header of {length} bytes in a file of {size}; the limit is {_LONGEST_HEADER}")
    return length.to_bytes(8, "little") + _exactly(descriptor, length)


def _exactly(descriptor: int, length: int) -> bytes:
    pieces, left = [], length
    while left and (piece := os.read(descriptor, left)):  # Linux reads two gigabytes at a time
        pieces.append(piece)
        left -= len(piece)
    if left:
        raise ValueError("the file ends too early")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def memory_bytes() -> int:
    """Return the bytes of memory that this machine has, or its container may use."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(memory, int(_CONTAINER_MEMORY.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or "max"
        return memory


def _load_half(data: bytes) -> dict[str, np.ndarray]:
    """Load tensors of which some are bfloat16, the upper half of a float32."""
    found = {}
    for name, entry in deserialize(data):
        brain = entry["dtype"] == _BRAIN
        flat = np.frombuffer(entry["data"], np.uint16 if brain else _NUMPY[entry["dtype"]])
        value = (flat.astype(np.uint32) << 16).view(np.float32) if brain else flat
        found[name] = value.reshape(entry["shape"])
    return found


def _tensors(header: bytes, data_bytes: int, half: bool) -> dict[str, TensorFacts]:
    """Check that the tensors lie one behind the other and fill the file."""
    entries = json.loads(header[8:].decode("utf-8"), object_pairs_hook=_without_repeats)
    if not isinstance(entries, dict):
        raise ValueError("its header is not an object")
    entries.pop("__metadata__", None)
    found, places = {}, []
    for name, entry in entries.items():
        facts, start, stop = _entry(name, entry, half)
        found[name] = facts
        places.append((start, stop))
    at = 0
    for start, stop in sorted(places):
        if start != at:
            raise ValueError(f"its tensors overlap or leave a gap at byte {at}")
        at = stop
    if at != data_bytes:
        raise ValueError(f"its header describes {at} bytes of data, and there are {data_bytes}")
    return found


def _entry(name: str, entry: Any, half: bool) -> tuple[TensorFacts, int, int]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"its header describes {name!a:.100} in another form than dtype, shape and data_offsets")
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    sizes = _BYTES | {_BRAIN: 2} if half else _BYTES
    if not isinstance(dtype, str) or dtype not in sizes:
        raise ValueError(f"{name!a:.100} has a type other than {', '.join(_BYTES)}")
    if not _whole(shape) or len(shape) > _MOST_AXES or not _whole(place) or len(place) != 2:
        raise ValueError(f"the shape or the place of {name!a:.100} is not a short list of whole numbers")
    if math.prod(shape) * sizes[dtype] != place[1] - place[0]:
        raise ValueError(f"the shape of {name!a:.100} does not fit its number of bytes")
    return TensorFacts(dtype, tuple(shape)), place[0], place[1]


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= _LARGEST_FILE for v in values)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header names one tensor twice")
    return found


def refuse_not_finite(weights: Mapping[str, np.ndarray], folder: Path, fix: str) -> None:
    """Refuse weights of which a value is infinite or no number.

    Args:
        weights: by name.
        folder: where they would be written, for the message.
        fix: what to do about it.

    Raises:
        BackboneError: naming the first such tensor.
    """
    for name, value in weights.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise BackboneError(
                "weights are not finite",
                where=f"{folder}: {name}",
                found=f"{int((~np.isfinite(value)).sum())} of {value.size}",
                fix=fix,
            )


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file, whole or not at all; the same tensors give the same bytes, since DVC hashes them."""
    with atomic_file(path) as file:
        # Sorted and contiguous: safetensors writes tensors as they come.
        file.write(save({name: value.copy(order="C") for name, value in sorted(tensors.items())}))
