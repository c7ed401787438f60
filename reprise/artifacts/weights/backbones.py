"""A trained backbone on disk: `backbone.safetensors` with timm's key names, `heads.safetensors`, `config.json`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from reprise.artifacts.weights.tensors import TensorFile, refuse_not_finite, write_tensors
from reprise.config.errors import BackboneError, ImageRefused
from reprise.config.params import MOST_BANDS, BackboneName, StrictModel, in_one_line, problems_of
from reprise.config.texts.text_forms import with_pattern
from reprise.storage.atomic import write_json
from reprise.storage.listing import read_regular

WEIGHTS, HEADS, CONFIG = "backbone.safetensors", "heads.safetensors", "config.json"
PREPARATION = ("crop_pct", "interpolation", "crop_mode")  # entries of config.json; see transform.resize_to_square
SMALLEST_SIDE, LARGEST_SIDE = 1, 2048  # pixels; timm's largest networks see 1024
_LARGEST_CONFIG = 1 << 20  # bytes
_LONGEST_OPTION, _LARGEST_OPTION = 100, 2**31  # characters of a text; a whole number
_DEEPEST = 32  # levels of lists and objects in config.json
_FIX = "Run `dvc repro pretrain` to write it again, or `dvc checkout` to restore it."

_Name = Annotated[str, with_pattern("[A-Za-z_][A-Za-z0-9_]{0,63}", "a name has up to 64 letters, digits, underscores")]
_Width = Annotated[int, Field(ge=1, le=1 << 22)]
_Channel = Annotated[float, Field(ge=-1e6, le=1e6)]
_Spread = Annotated[float, Field(ge=1e-6, le=1e6)]


class BackboneConfig(StrictModel):
    """The entries of config.json from which a network is built, each within bounds.

    A file has further entries, which describe the run (method, budget, parameters). Readers show them and nothing is
    ever built from them, so that files of older and newer versions stay readable.

    Attributes:
        architecture: the name of a plug-in or of timm's network; never a path or an address.
        options: of the architecture; `reprise.networks.backbone.backbone_named` holds them against its own list.
        stem: see `resolve_stem`.
        input_size: side of the images in pixels.
        channels: bands of the images.
        mean, std: of each channel on the 0..1 scale.
        num_features: width of the features.
        heads: the widths of the layers of each head.
        crop_pct, interpolation, crop_mode: see `preparation_of`; absent where the whole image is seen.
    """

    model_config = ConfigDict(extra="allow")

    architecture: BackboneName
    options: Annotated[dict[_Name, Any], Field(max_length=64)]
    stem: Literal["auto", "small", "imagenet"]
    input_size: Annotated[int, Field(ge=SMALLEST_SIDE, le=LARGEST_SIDE)]
    channels: Annotated[int, Field(ge=1, le=MOST_BANDS)]
    mean: list[_Channel]
    std: list[_Spread]
    num_features: Annotated[int, Field(ge=1, le=1 << 22)]
    heads: Annotated[dict[_Name, Annotated[list[_Width], Field(min_length=2, max_length=32)]], Field(max_length=16)]
    crop_pct: Annotated[float, Field(ge=0.1, le=1)] = 1.0
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    crop_mode: Literal["center", "squash"] = "center"

    @field_validator("channels", mode="before")
    @classmethod
    def _a_number(cls, value: object) -> object:
        """Refuse `true` and 3.0, which equal a number of channels in Python."""
        if type(value) is not int:
            raise ValueError("input should be a whole number")
        return value

    @field_validator("options")
    @classmethod
    def _plain(cls, value: dict[str, Any]) -> dict[str, Any]:
        for option in value.values():
            if not all(_is_plain(item) for item in (option if isinstance(option, list) else [option])):
                raise ValueError("an option should be a number, a switch, a short text or a list of these")
        return value

    @field_validator("mean", "std")
    @classmethod
    def _one_a_channel(cls, value: list[float], info: ValidationInfo) -> list[float]:
        if len(value) != info.data.get("channels", len(value)):
            raise ValueError("there should be one value for each channel")
        return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_OPTION
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, int) and abs(value) <= _LARGEST_OPTION)


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
    refuse_not_finite({**weights, **heads}, folder, "The run diverged: lower its learning rate.")
    write_tensors(folder / WEIGHTS, weights)
    write_tensors(folder / HEADS, heads)
    write_json(folder / CONFIG, config)


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read `config.json` and check it; see `BackboneConfig`.

    Raises:
        BackboneError: missing, not JSON, larger than any configuration, without a needed entry, or with a value out of
            bounds.
    """
    path = Path(folder) / CONFIG
    try:
        text = read_regular(path, _LARGEST_CONFIG).decode("utf-8")
        raw = json.loads(text, parse_constant=_refuse_number, parse_float=_finite)
    except (ValueError, RecursionError, ImageRefused) as error:
        found = error.found if isinstance(error, ImageRefused) else error
        raise BackboneError("the backbone's configuration cannot be read", where=path, found=found, fix=_FIX) from error
    if _depth(raw) > _DEEPEST or not isinstance(raw, dict):
        found = f"more than {_DEEPEST} levels" if isinstance(raw, dict) else f"a {type(raw).__name__}"
        raise BackboneError("the backbone's configuration cannot be read", where=path, found=found, fix=_FIX)
    checked_config(raw, path)
    return dict(raw)


def checked_config(entries: dict[str, Any], where: object) -> BackboneConfig:
    """Return the entries of config.json from which a network is built.

    Args:
        entries: the content of the file.
        where: the file, for messages.

    Raises:
        BackboneError: an entry is missing or out of bounds.
    """
    missing = [
        name for name, field in BackboneConfig.model_fields.items() if field.is_required() and name not in entries
    ]
    if missing:
        raise BackboneError(
            "the backbone's configuration is incomplete", where=where, found=f"no {', '.join(missing)}", fix=_FIX
        )
    problems = problems_of(BackboneConfig, entries, "")
    if problems:
        raise BackboneError(
            "the backbone's configuration describes no network of Reprise",
            where=where,
            found=in_one_line(problems),
            fix="Correct it, or take the folder from whoever trained the backbone.",
        )
    return BackboneConfig.model_validate(entries)


def _refuse_number(text: str) -> None:
    raise ValueError(f"{text}, which JSON does not have")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text:.40}, which is too large")
    return value


def _depth(value: Any) -> int:
    """Count the levels of lists and objects, without recursion."""
    level, deepest = [value], 0
    while level := [inner for v in level for inner in _inner(v)]:
        deepest += 1
    return deepest


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def open_weights(folder: str | Path) -> tuple[TensorFile, TensorFile]:
    """Read the headers of backbone and heads, and none of their data.

    Raises:
        BackboneError: missing, truncated or not safetensors.
    """
    return TensorFile.open(Path(folder) / WEIGHTS, _FIX), TensorFile.open(Path(folder) / HEADS, _FIX)


def preparation_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return how images are prepared for this backbone, as arguments of `Decoded.resized` besides the side.

    Backbones that were trained here see the whole of the shorter side; published weights state `crop_pct`,
    `interpolation` and `crop_mode`.
    """
    return {name: config[name] for name in PREPARATION if name in config}


def read_weights(folder: str | Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Read backbone and heads as arrays; no pickle is involved.

    Raises:
        BackboneError: missing, truncated, not safetensors, or not finite.
    """
    weights, heads = open_weights(folder)
    return weights.read(), heads.read()
