"""Fit foreign weights to a network: one table of prefixes, and an account of every tensor on both sides.

Nothing is left out, renamed or changed without an entry in the account. A network is filled whole or not at all: a
tensor that is missing, or has another shape, is refused. Position embeddings are the one exception: those of another
grid are interpolated, and the account says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from reprise.config.errors import BackboneError, listed, printable

# What releases put before the names of a backbone, from the outside to the inside; up to `_LONGEST` of them in a row.
# Of two branches the one that authors publish comes first: DINO's teacher, MoCo's query encoder, BYOL's online network.
PREFIXES = {
    "module.": "torch's DataParallel",
    "_orig_mod.": "torch.compile",
    "model.": "timm, Lightning",
    "teacher.": "DINO",
    "student.": "DINO",
    "teacher_backbone.": "lightly's DINO",
    "student_backbone.": "lightly's DINO",
    "base_encoder.": "MoCo v3",
    "encoder_q.": "MoCo",
    "online_network.": "BYOL",
    "online_encoder.": "BYOL",
    "momentum_encoder.": "MoCo v3",
    "encoder_k.": "MoCo",
    "target_network.": "BYOL",
    "backbone.": "DINO, lightly, mmpretrain",
    "encoder.": "MAE, SimSiam",
    "visual.": "CLIP",
    "trunk.": "open_clip",
    "net.": "",
    "network.": "",
    "resnet.": "",
    "_backbone.": "",
}
_LONGEST = 4
# Names that authors and timm give to the same tensor.
RENAMED = {"register_tokens": "reg_token"}
POSITIONS = ("pos_embed", "position_embedding")
_COUNTER = "num_batches_tracked"  # of batch normalisation; files from before torch 0.4.1 do not have it
_SHOWN = 8  # names in a message


@dataclass(frozen=True)
class Fitted:
    """Weights that fit a network, and the account of all tensors.

    Attributes:
        arrays: for each tensor of the network.
        prefix: what was cut from the file's names ("module.encoder_q.").
        used: tensors that were taken as they are.
        renamed: the network's name -> the file's name, besides the prefix.
        interpolated: the network's name -> the shapes before and after.
        left_out: tensors of the file that the network does not have.
        filled: tensors that the file does not have and that hold no weights: counters of batch normalisation.
    """

    arrays: dict[str, np.ndarray]
    prefix: str
    used: tuple[str, ...]
    renamed: dict[str, str]
    interpolated: dict[str, str]
    left_out: tuple[str, ...]
    filled: tuple[str, ...]

    def account(self) -> dict[str, object]:
        """Return the account as plain values, for mapping.json."""
        return {
            "prefix": self.prefix,
            "used": list(self.used),
            "renamed": self.renamed,
            "interpolated": self.interpolated,
            "left_out": list(self.left_out),
            "filled": list(self.filled),
        }

    def sentences(self) -> list[str]:
        """Say what is not as in the file, a sentence each; none where everything was taken as it is."""
        said = [f"The prefix '{printable(self.prefix)}' was cut from all names."] if self.prefix else []
        said += [f"'{printable(theirs)}' was taken for {ours}." for ours, theirs in self.renamed.items()]
        said += [f"{name} was interpolated from {shapes}." for name, shapes in self.interpolated.items()]
        if self.left_out:
            names = ", ".join(printable(name, 80) for name in self.left_out[:_SHOWN])
            more = f" and {len(self.left_out) - _SHOWN} more" if len(self.left_out) > _SHOWN else ""
            count = len(self.left_out)
            said.append(
                f"{count} tensor{'s' if count > 1 else ''} of the file did not go into the network: {names}{more}."
            )
        return said


def fit_weights(
    expected: Mapping[str, torch.Tensor], arrays: Mapping[str, np.ndarray], where: str, fix: str, prefix_tokens: int = 1
) -> Fitted:
    """Fit the tensors of a file to a network.

    Args:
        expected: state of the network; only names, shapes and types are looked at.
        arrays: of the file.
        where: the file, for messages.
        fix: what to do where they do not fit, a sentence.
        prefix_tokens: class and register tokens before the patches of a transformer.

    Raises:
        BackboneError: a tensor of the network is missing, or has another shape or kind.
    """
    prefix = best_prefix(arrays, expected)
    theirs = {
        RENAMED.get(name.removeprefix(prefix), name.removeprefix(prefix)): name
        for name in arrays
        if name.startswith(prefix)
    }
    taken: dict[str, np.ndarray] = {}
    interpolated: dict[str, str] = {}
    filled: list[str] = []
    wrong: list[str] = []
    for name, tensor in expected.items():
        shape = tuple(tensor.shape)
        if name not in theirs:
            if name.rpartition(".")[2] == _COUNTER:
                taken[name] = np.zeros(shape, np.int64)
                filled.append(name)
            else:
                wrong.append(f"{name} is missing")
            continue
        value = arrays[theirs[name]]
        if value.shape != shape and name.rpartition(".")[2] in POSITIONS:
            resized = interpolate_positions(value, shape, prefix_tokens)
            if resized is not None:
                interpolated[name] = f"{value.shape} to {shape}"
                taken[name] = resized
                continue
        if value.shape not in (shape, shape or (1,)):  # torch takes a vector of one number for a number
            wrong.append(f"{name} is {value.shape}, not {shape}")
        elif (value.dtype.kind == "f") != tensor.is_floating_point():
            wrong.append(f"{name} has the type {value.dtype}, not {tensor.dtype}")
        else:
            taken[name] = value.reshape(shape)
    if wrong:
        raise _misfit(wrong, len(expected), theirs, expected, where, fix)
    renamed = {name: theirs[name] for name in taken if name in theirs and theirs[name] != prefix + name}
    used = tuple(n for n in taken if n in theirs and n not in renamed and n not in interpolated)
    kept = {theirs[name] for name in taken if name in theirs}
    left_out = tuple(sorted(name for name in arrays if name not in kept))
    return Fitted(taken, prefix, used, renamed, interpolated, left_out, tuple(filled))


def best_prefix(names: Mapping[str, object], expected: Mapping[str, object]) -> str:
    """Find the chain of prefixes that makes most names of the file names of the network; the earliest of equals."""
    chains, level = [""], [""]
    for _ in range(_LONGEST):
        level = [chain + prefix for chain in level for prefix in PREFIXES if _any_begins(names, chain + prefix)]
        chains += level
    wanted = expected.keys()
    hits = [
        sum(name.startswith(chain) and _renamed(name[len(chain) :]) in wanted for name in names) for chain in chains
    ]
    return chains[hits.index(max(hits))]


def _renamed(name: str) -> str:
    return RENAMED.get(name, name)


def _any_begins(names: Mapping[str, object], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def interpolate_positions(value: np.ndarray, shape: Sequence[int], prefix_tokens: int) -> np.ndarray | None:
    """Bring position embeddings of a square grid to another one, bicubic with antialiasing, as timm does.

    Args:
        value: (1, t + n, D), with t class and register tokens before n patches, or t = 0.
        shape: the wanted (1, t + m, D).
        prefix_tokens: t, tried before 0.

    Returns:
        None where there is no such t, or the width D differs.
    """
    if value.ndim != 3 or len(shape) != 3 or value.shape[0] != 1 or value.shape[2] != shape[2]:
        return None
    for tokens in dict.fromkeys((prefix_tokens, 0)):
        old, new = value.shape[1] - tokens, shape[1] - tokens
        if min(old, new) > 0 and math.isqrt(old) ** 2 == old and math.isqrt(new) ** 2 == new:
            grid = torch.from_numpy(np.ascontiguousarray(value[:, tokens:], dtype=np.float32))
            plane = grid.transpose(1, 2).reshape(1, -1, math.isqrt(old), math.isqrt(old))
            sides = (math.isqrt(new), math.isqrt(new))
            plane = F.interpolate(plane, size=sides, mode="bicubic", align_corners=False, antialias=True)
            return np.concatenate([value[:, :tokens], plane.flatten(2).transpose(1, 2).numpy()], axis=1)
    return None


def _misfit(
    wrong: Sequence[str], count: int, theirs: Mapping[str, str], expected: Mapping[str, object], where: str, fix: str
) -> BackboneError:
    unknown = [printable(name, 80) for name in sorted(theirs.keys() - expected.keys())]
    lines = [*wrong[:_SHOWN], *([f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else [])]
    if unknown:
        lines.append(f"names that the network does not have: {', '.join(unknown[:_SHOWN])}")
    return BackboneError(
        f"{len(wrong)} of the {count} tensors of the network do not come from the weights",
        where=where,
        found=listed(lines),
        fix=fix,
    )
