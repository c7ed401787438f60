"""`torch`: the backbone as a program of torch.export, which plain torch loads without any code of ours."""

from __future__ import annotations

from pathlib import Path

import torch

from reprise.backbones.exports.form import Written, shapes
from reprise.backbones.loaded import LoadedBackbone
from reprise.config.errors import BackboneError

FILE = "backbone.pt2"


def program_of(backbone: LoadedBackbone) -> torch.export.ExportedProgram:
    """Trace the network for any number of images."""
    network = backbone.network.to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, *backbone.shape)
    try:
        return torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("images")},))
    except Exception as error:  # torch.export has no common class of errors
        lines = str(error).strip().splitlines()
        raise BackboneError(
            "torch cannot trace this network as a program for any number of images",
            where=backbone.config["architecture"],
            found=f"{type(error).__name__}: {lines[0] if lines else 'no reason'}",
            fix="Export it with --to timm. In a backbone of your own, use x.shape[0] in place of len(x).",
        ) from error


def write_program(backbone: LoadedBackbone, folder: Path) -> Written:
    """Write the program and load it.

    Raises:
        BackboneError: torch cannot trace the network.
    """
    path = folder / FILE
    torch.export.save(program_of(backbone), path)
    usage = f"""import torch

backbone = torch.export.load("{FILE}").module()
features = backbone(images)  # {shapes(backbone)}"""
    return Written(torch.export.load(path).module(), usage)
