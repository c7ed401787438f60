"""Read files of foreign weights: safetensors, and torch files of which nothing but tensors is taken.

A torch file is a pickle, and a pickle can run code. `torch.load(..., weights_only=True)` builds tensors and plain
containers and refuses everything else, so nothing in the file is ever called. Half-precision numbers (bf16, fp16)
become float32, in which networks are trained here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reprise.artifacts.weights.tensors import TensorFile, memory_bytes
from reprise.config.errors import BackboneError, listed, printable

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
SAFE_SUFFIX = ".safetensors"
# Entries of a checkpoint that hold weights, best first. Of a student and a teacher, authors publish the teacher's.
PARTS = ("teacher", "target_encoder", "ema", "model_ema", "state_dict", "model", "module", "student", "net", "weights")
_HALVES = ("torch.bfloat16", "torch.float16")
_COPIES = 3  # of the data in memory at the same time
_DEEPEST = 3  # levels of checkpoints inside of checkpoints


@dataclass(frozen=True)
class WeightFile:
    """The tensors of a file.

    Attributes:
        arrays: by the file's own names; floating-point numbers are float32.
        part: the entry of the checkpoint that they are from ("model.teacher"); empty for the whole file.
        other_parts: entries that hold weights too and were left alone.
        converted: how many tensors each type had that became float32 ({"bfloat16": 150}).
    """

    arrays: dict[str, np.ndarray]
    part: str
    other_parts: tuple[str, ...]
    converted: dict[str, int]


def read_weight_file(path: Path, part: str | None = None) -> WeightFile:
    """Read a file of weights by its ending.

    Args:
        path: a safetensors file or a torch file.
        part: the entry of a torch file that holds the weights ("student"); None takes the first of `PARTS`.

    Raises:
        BackboneError: missing, of another kind, not readable without running code, or with values that are not finite.
    """
    if not path.is_file():
        raise BackboneError(
            "the file of weights is missing",
            where=path,
            found="no such file",
            fix="Correct the path, which is taken from the folder of params.yaml, or put the file there.",
        )
    if path.suffix == SAFE_SUFFIX:
        file = TensorFile.open(path, "Fetch the file again from whoever published it.", half=True)
        found = file.read()
        halves = {name: facts.dtype for name, facts in file.tensors.items() if facts.dtype in ("BF16", "F16")}
        return _file(found, "", (), halves, path)
    if path.suffix not in TORCH_SUFFIXES:
        raise BackboneError(
            "this kind of file is not read",
            where=path,
            found=path.suffix or "a name without an ending",
            fix=f"Name a file that ends in {SAFE_SUFFIX} or in one of {', '.join(TORCH_SUFFIXES)}.",
        )
    tensors, chosen, others = _weights_in(_load(path), path, part)
    halves = {name: str(t.dtype).removeprefix("torch.") for name, t in tensors.items() if str(t.dtype) in _HALVES}
    arrays = {n: np.array((t.float() if t.is_floating_point() else t).detach().numpy()) for n, t in tensors.items()}
    return _file(arrays, chosen, others, halves, path)


def _load(path: Path) -> Any:
    """Load a torch file without running anything in it.

    Raises:
        BackboneError: it holds more than tensors and plain values, is damaged, or does not fit into memory.
    """
    size, limit = os.path.getsize(path), memory_bytes()
    if size * _COPIES > limit:
        raise BackboneError(
            "the weights do not fit into the memory of this machine",
            where=path,
            found=f"{size * _COPIES} bytes needed, {limit} there",
            fix="Convert the file on a larger machine: `models` of params.yaml takes the .safetensors file.",
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # of a damaged or a hostile file: zipfile, pickle, torch and the tensors' own errors
        raise BackboneError(
            "the file of weights cannot be read without running code that is in it, or it is damaged",
            where=path,
            found=f"{type(error).__name__}: {printable(' '.join(str(error).split()), 200)}",
            fix="Convert it where you trust it: safetensors.torch.save_file(model.state_dict(), FILE).",
        ) from error


def _weights_in(content: Any, path: Path, part: str | None) -> tuple[dict[str, torch.Tensor], str, tuple[str, ...]]:
    """Find the state dictionary in a checkpoint: its tensors, the entry's name, and the names of other such entries."""
    found = _parts_of(content)
    named = {name: tensors for name, tensors in found.items() if part is None or part in name.split(".")}
    if not named:
        raise BackboneError(
            "the file holds no such weights" if found else "the file holds no weights",
            where=path,
            found=listed([printable(name, 100) for name in found]) if found else f"a {type(content).__name__}",
            fix="Name one of these as `part`." if found else "Name a file that holds a state dictionary.",
        )
    chosen = min(named, key=lambda name: (_rank(name), name))
    return named[chosen], chosen, tuple(sorted(found.keys() - {chosen}))


def _parts_of(content: Any, name: str = "", depth: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """Collect all state dictionaries in nested dictionaries, by dotted name; empty for the whole file."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return {}
    tensors = {str(key): value for key, value in content.items() if torch.is_tensor(value) and not value.is_sparse}
    if tensors and any("." in key for key in tensors):
        return {name: tensors}
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in content.items():
        if isinstance(key, str) and key != "optimizer":
            found |= _parts_of(value, f"{name}.{key}".strip("."), depth + 1)
    return found


def _rank(name: str) -> int:
    words = name.split(".")
    return min((PARTS.index(word) for word in words if word in PARTS), default=len(PARTS))


def _file(
    arrays: dict[str, np.ndarray], part: str, others: tuple[str, ...], halves: Mapping[str, str], path: Path
) -> WeightFile:
    """Bring arrays to float32 and check that they are finite."""
    for name, value in arrays.items():
        arrays[name] = value.astype(np.float32) if value.dtype.kind == "f" else value
        if arrays[name].dtype.kind == "f" and not math.isfinite(float(np.abs(arrays[name]).max(initial=0.0))):
            raise BackboneError(
                "weights are not finite",
                where=f"{path}: {printable(name, 100)}",
                found=f"{int((~np.isfinite(arrays[name])).sum())} of {arrays[name].size}",
                fix="Fetch the file again from whoever published it.",
            )
    counts = {kind: list(halves.values()).count(kind) for kind in sorted(set(halves.values()))}
    return WeightFile(arrays, part, others, counts)
