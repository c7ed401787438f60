"""A trained backbone on disk: `backbone.safetensors` with timm's key names, `heads.safetensors`, `config.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from reprise.config.errors import BackboneError
from reprise.storage.atomic import atomic_file, write_json

WEIGHTS, HEADS, CONFIG = "backbone.safetensors", "heads.safetensors", "config.json"
PREPARATION = ("crop_pct", "interpolation", "crop_mode")  # entries of config.json; see transform.resize_to_square
_NEEDED = ("architecture", "options", "stem", "input_size", "channels", "mean", "std", "num_features", "heads")
_FIX = "Run `dvc repro pretrain` to write it again, or `dvc checkout` to restore it."


def write_backbone(
    folder: Path, weights: dict[str, np.ndarray], heads: dict[str, np.ndarray], config: dict[str, Any]
) -> None:
    """Write the three files into an existing folder.

    Args:
        folder: that of the run.
        weights: of the backbone, under timm's names.
        heads: of projector and predictor.
        config: architecture, stem, input size, mean and standard deviation; `read_config` names the entries needed.

    Raises:
        BackboneError: weights that are not finite.
    """
    for name, value in {**weights, **heads}.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise BackboneError(
                "weights are not finite",
                where=f"{folder}: {name}",
                found=f"{int((~np.isfinite(value)).sum())} of {value.size}",
                fix="The run diverged: lower its learning rate.",
            )
    for file_name, tensors in ((WEIGHTS, weights), (HEADS, heads)):
        with atomic_file(folder / file_name) as file:
            # Sorted and contiguous: safetensors writes tensors as they come, and the bytes are hashed by DVC.
            file.write(save({k: v.copy(order="C") for k, v in sorted(tensors.items())}))
    write_json(folder / CONFIG, config)


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read and check `config.json`.

    Raises:
        BackboneError: missing, not JSON, or without a needed entry.
    """
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError("the backbone's configuration cannot be read", where=path, found=error, fix=_FIX) from error
    missing = [k for k in _NEEDED if not isinstance(config, dict) or k not in config]
    if missing:
        raise BackboneError(
            "the backbone's configuration is incomplete", where=path, found=f"no {', '.join(missing)}", fix=_FIX
        )
    return config


def preparation_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return how images are prepared for this backbone, as arguments of `Decoded.resized` besides the side.

    Backbones that were trained here see the whole of the shorter side; published weights state `crop_pct`,
    `interpolation` and `crop_mode`.
    """
    return {name: config[name] for name in PREPARATION if name in config}


def read_weights(folder: str | Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Read backbone and heads as arrays; no pickle is involved.

    Raises:
        BackboneError: missing, truncated or not safetensors.
    """
    found = []
    for name in (WEIGHTS, HEADS):
        path = Path(folder) / name
        try:
            found.append(load(path.read_bytes()))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackboneError("the weights cannot be read", where=path, found=error, fix=_FIX) from error
    return found[0], found[1]
