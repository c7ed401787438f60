"""The text side of a run: `text.safetensors` (tower and projection) and `text.json` (the tokenizer, and sizes)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field

from reprise.artifacts.results import read_json
from reprise.artifacts.weights.tensors import TensorFile, refuse_not_finite, write_tensors
from reprise.config.errors import BackboneError
from reprise.config.params import StrictModel, in_one_line, problems_of
from reprise.storage.atomic import write_json

TEXT_WEIGHTS, TEXT = "text.safetensors", "text.json"
_FIX = "Run `dvc repro pretrain` to write it again."
_Width = Annotated[int, Field(ge=1, le=65_536)]


class TextConfig(StrictModel):
    """The entries of text.json from which the text side is built, each within bounds.

    Attributes:
        tokenizer: what `Tokenizer.as_json` wrote; reprise/networks/text/tokenizer.py checks it.
        fact: the fact whose texts it was trained on.
        length: tokens of a text, start and end included.
        width, depth, heads: of the tower.
        output: width of the space that images and texts share.
        temperature: by which similarities are divided.
    """

    model_config = ConfigDict(extra="allow")

    tokenizer: dict[str, Any]
    fact: Annotated[str, Field(max_length=48)]
    length: Annotated[int, Field(ge=4, le=512)]
    width: Annotated[int, Field(ge=1, le=4096)]
    depth: Annotated[int, Field(ge=1, le=48)]
    heads: Annotated[int, Field(ge=1, le=64)]
    output: _Width
    temperature: Annotated[float, Field(gt=0, le=1000)]


def write_text_model(folder: Path, arrays: dict[str, np.ndarray], config: dict[str, Any]) -> None:
    """Write both files into the folder of a run.

    Args:
        folder: of the run.
        arrays: weights, as `tower.*` and `projection.*`.
        config: the entries of `TextConfig`.

    Raises:
        BackboneError: weights that are not finite.
    """
    refuse_not_finite(arrays, folder, "The run diverged: lower its learning rate.")
    write_tensors(folder / TEXT_WEIGHTS, arrays)
    write_json(folder / TEXT, config)


def read_text_model(folder: Path) -> tuple[TextConfig, TensorFile]:
    """Read the configuration, and the header of the weights.

    Raises:
        BackboneError: a file is missing or damaged, or an entry is out of bounds.
    """
    entries = read_json(folder / TEXT, _FIX)
    if problems := problems_of(TextConfig, entries, ""):
        raise BackboneError(
            "the text side of the run has a damaged description",
            where=folder / TEXT,
            found=in_one_line(problems),
            fix=_FIX,
        )
    return TextConfig.model_validate(entries), TensorFile.open(folder / TEXT_WEIGHTS, _FIX)
