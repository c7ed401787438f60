"""From a row of `models` to the folder of a backbone, with an account of what became of every tensor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reprise.artifacts.models import MAPPING, architecture_of, folder_of
from reprise.artifacts.weights.backbones import CONFIG, WEIGHTS, open_weights, read_config, read_weights, write_backbone
from reprise.config.errors import BackboneError, printable
from reprise.config.tables import TIMM, ModelRow
from reprise.networks.assemble import Mismatch, assemble, feature_width, load_arrays
from reprise.networks.backbone import build_backbone
from reprise.networks.weights.fit import fit_weights
from reprise.networks.weights.made_for import made_for
from reprise.networks.weights.published import published_file
from reprise.storage.atomic import write_json
from reprise.storage.listing import sha256_of
from stages.models.weight_files import WeightFile, read_weight_file


def convert(row: ModelRow, folder: Path) -> None:
    """Write backbone.safetensors, heads.safetensors, config.json and mapping.json into an existing folder.

    What is not as in the file is said on the terminal and stands in config.json (`notes`).

    Raises:
        BackboneError: the weights cannot be had or read, are not those of `sha256`, or do not fit their network.
    """
    if not row.weights.startswith(TIMM) and not row.is_file:
        _take_run(row, folder_of(row), folder)
        return
    path = published_file(architecture_of(row)).path if row.weights.startswith(TIMM) else Path(row.weights)
    digest = _checked_digest(row, path)
    _convert_file(row, read_weight_file(path, row.part), digest, folder)


def _take_run(row: ModelRow, source: Path, folder: Path) -> None:
    """Take over the folder of a run; all that it needs to be rebuilt is in it."""
    digest = _checked_digest(row, source / WEIGHTS)
    config = read_config(source)
    assemble(config, *open_weights(source), where=str(source))  # what is wrong is found here, and not in a run
    weights, heads = read_weights(source)
    origin = {"model": row.name, "source": row.weights, "sha256": digest}
    write_backbone(folder, weights, heads, {**config, **origin})
    write_json(folder / MAPPING, {"prefix": "", "used": sorted(weights), "left_out": []})
    _say(row, digest, [])


def _convert_file(row: ModelRow, file: WeightFile, digest: str, folder: Path) -> None:
    """Fit the tensors of a file to the network of the row."""
    architecture = architecture_of(row)
    expected, channels = made_for(architecture, row.size), 3
    network = build_backbone(architecture, channels, expected.size, row.stem)
    state = network.state_dict()
    tokens = int(getattr(network, "num_prefix_tokens", 1))
    fix = "Name the right architecture, and `stem: small` for a ResNet whose first convolution is 3x3."
    fitted = fit_weights(state, file.arrays, row.weights, fix, tokens)
    mismatch = Mismatch(f"the weights do not fit {architecture}", row.weights, fix)
    load_arrays(network, fitted.arrays, mismatch)
    notes = [*_notes_on(file), *fitted.sentences()]
    config: dict[str, Any] = {
        "architecture": architecture,
        "options": {},
        "stem": row.stem,
        **expected.entries(channels),
        "num_features": feature_width(network, channels, expected.size, mismatch),
        "heads": {},
        "method": "published",
        "model": row.name,
        "source": row.weights,
        "sha256": digest,
        "notes": notes,
    }
    arrays = {name: value.astype(_type_of(state[name])) for name, value in fitted.arrays.items()}
    write_backbone(folder, arrays, {}, config)
    write_json(folder / MAPPING, {"part": file.part, "converted": file.converted, **fitted.account()})
    _say(row, digest, notes)


def _type_of(tensor: torch.Tensor) -> np.dtype:
    return np.dtype(str(tensor.dtype).removeprefix("torch."))


def _notes_on(file: WeightFile) -> list[str]:
    """Say what was chosen and converted of a file, a sentence each."""
    said = [f"The weights are its entry '{printable(file.part)}'."] if file.part else []
    if file.other_parts:
        said.append(f"Other entries that hold weights: {', '.join(printable(name) for name in file.other_parts)}.")
    return said + [f"{count} tensors were converted from {kind} to float32." for kind, count in file.converted.items()]


def _checked_digest(row: ModelRow, path: Path) -> str:
    """Return the checksum of the file, and refuse another one than the row names.

    Raises:
        BackboneError: missing, or another checksum.
    """
    if not path.is_file():
        raise BackboneError(
            "the weights are not there",
            where=f"models: {row.name}",
            found=f"no file {path}" + ("" if row.is_file else f"; the folder of a run has {WEIGHTS} and {CONFIG}"),
            fix="Put it there, or correct the path, which is taken from the folder of params.yaml.",
        )
    digest, _ = sha256_of(path)
    if row.sha256 not in (None, digest):
        raise BackboneError(
            "the weights are not those that the row names",
            where=f"models: {row.name}: sha256",
            found=digest,
            fix="Restore the file, or write this checksum into the row.",
        )
    return digest


def _say(row: ModelRow, digest: str, notes: list[str]) -> None:
    """Print what became of the weights, a line each."""
    print(f"models/{row.name}: {row.weights}, sha256 {digest}", file=sys.stderr)
    for note in notes:
        print(f"note: models/{row.name}: {note}", file=sys.stderr, flush=True)
