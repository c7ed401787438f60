"""The forms by their names."""

from __future__ import annotations

from pathlib import Path

from reprise.backbones.exports import onnx_file, timm_folder, torch_program
from reprise.backbones.exports.form import Form, difference
from reprise.backbones.loaded import LoadedBackbone

FORMS: dict[str, Form] = {
    "timm": timm_folder.TIMM,
    "huggingface": timm_folder.HUGGINGFACE,
    "onnx": onnx_file.FORM,
    "torch": torch_program.FORM,
}


def write_form(backbone: LoadedBackbone, name: str, folder: Path) -> float:
    """Write a backbone in one form into an existing folder, load what was written, and compare.

    Returns:
        The largest difference of a feature, as a share of the largest feature.

    Raises:
        BackboneError: the form does not suit the backbone, lacks its package, or gives other features.
    """
    return difference(backbone, FORMS[name].write(backbone, folder))
