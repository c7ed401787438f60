"""Checkpoints: a tree of dictionaries, lists, numbers, strings and arrays in one safetensors file, without pickle.

Arrays become tensors of the file; the tree around them is JSON in its header. Files are written atomically, and the
last two are kept, so that a damaged newest one costs no more than the work since the one before.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import safe_open

from reprise.config.errors import CheckpointError
from reprise.storage.atomic import atomic_file
from reprise.storage.system.machine import fault_behind

KEPT = 2
_ALIGNED = 8  # bytes
_FORMATS = {
    "b1": "BOOL", "u1": "U8", "i1": "I8", "u2": "U16", "i2": "I16", "u4": "U32", "i4": "I32", "u8": "U64", "i8": "I64",
    "f2": "F16", "f4": "F32", "f8": "F64",
}  # fmt: skip
_NAME = re.compile(r"^step-(\d{9})\.safetensors$")


def save_checkpoint(folder: Path, step: int, tree: dict[str, Any]) -> Path:
    """Write the state after `step` steps and drop all but the last two checkpoints.

    Returns:
        the file.

    Raises:
        CheckpointError: the tree holds something else than numbers, strings, arrays, lists and dictionaries.
    """
    arrays: dict[str, np.ndarray] = {}
    packed = json.dumps(_pack(tree, arrays), allow_nan=False)
    path = folder / f"step-{step:09d}.safetensors"
    with atomic_file(path) as file:
        _write(file, arrays, {"tree": packed})
    for old in _found(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def latest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the newest readable state, or None; name damaged ones on stderr and skip them."""
    for path in reversed(_found(folder)):
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            print(f"skipping a damaged checkpoint: {error}", file=sys.stderr, flush=True)
    return None


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the file of the newest checkpoint, or None; it is not read."""
    return next(reversed(_found(folder)), None)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read one checkpoint.

    Raises:
        CheckpointError: truncated, foreign or of another form.
        MachineError: no file can be opened, memory is short, or the disk fails.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = (file.metadata() or {}).get("tree")
            if header is None:
                raise CheckpointError(
                    "this file is not a checkpoint of Reprise",
                    where=path,
                    found="a safetensors file without a state tree",
                    fix="Remove it; training continues from the previous one.",
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        tree = _unpack(json.loads(header), arrays)
        if not isinstance(tree, dict):
            raise ValueError("the state tree is not a mapping")
        return tree
    except CheckpointError:
        raise
    except Exception as error:  # a foreign file may hold any types, names and depths
        if (fault := fault_behind(error, path)) is not None:  # nothing is trained anew because of it
            raise fault from error
        raise CheckpointError(
            "the checkpoint cannot be read",
            where=path,
            found=error,
            fix="Remove it; training continues from the previous one.",
        ) from error


def _write(file: IO[bytes], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, one array after the other.

    The library's own function makes the whole file in memory and holds Python's lock meanwhile: for 66 million
    numbers, a fifth of a second in which a GPU is given nothing to do.
    """
    entries, place = {}, 0
    ordered = sorted(arrays.items(), key=lambda pair: -pair[1].itemsize)  # so that each lies where its numbers fit
    for name, array in ordered:
        little = array.dtype.newbyteorder("<")
        if array.dtype != little or array.dtype.str[1:] not in _FORMATS:
            raise ValueError(f"a safetensors file cannot hold numbers of the format {array.dtype}")
        entries[name] = {
            "dtype": _FORMATS[array.dtype.str[1:]],
            "shape": list(array.shape),
            "data_offsets": [place, place := place + array.nbytes],
        }
    header = json.dumps({"__metadata__": metadata, **entries}).encode()
    header += b" " * (-len(header) % _ALIGNED)
    file.write(len(header).to_bytes(8, "little") + header)
    for _, array in ordered:
        file.write(array.data.cast("B") if array.size else b"")  # the lock is free while the bytes travel


def _found(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*.safetensors") if _NAME.match(p.name))


def _pack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Turn a tree into JSON, moving its arrays into `arrays`.

    Every value is wrapped in an object that names its type. Dictionaries become lists of pairs, since their keys may be
    numbers, which JSON would turn into strings.
    """
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays):06d}"
        arrays[name] = np.ascontiguousarray(value)  # gives a scalar one axis, so the shape is kept beside it
        return {"array": name, "shape": list(value.shape)}
    if isinstance(value, dict):
        return {"dict": [[_pack(k, arrays), _pack(v, arrays)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_pack(v, arrays) for v in value]}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise CheckpointError(
        "a checkpoint holds only numbers, strings, arrays, lists and dictionaries",
        where="training state",
        found=type(value).__name__,
        fix="Keep such state out of state_dict().",
    )


def _unpack(packed: Any, arrays: dict[str, np.ndarray]) -> Any:
    if "array" in packed:
        return arrays[packed["array"]].reshape(packed["shape"])
    if "dict" in packed:
        return {_unpack(k, arrays): _unpack(v, arrays) for k, v in packed["dict"]}
    if "list" in packed:
        return [_unpack(v, arrays) for v in packed["list"]]
    return packed["value"]
