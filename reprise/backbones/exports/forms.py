"""The forms by their names."""

from __future__ import annotations

from pathlib import Path

from reprise.backbones.exports import onnx_file, timm_folder, torch_program
from reprise.backbones.exports.form import Form, difference
from reprise.backbones.loaded import LoadedBackbone

FORMS: dict[str, Form] = {
    "timm": timm_folder.write_for_timm,
    "huggingface": timm_folder.write_for_transformers,
    "onnx": onnx_file.write_onnx,
    "torch": torch_program.write_program,
}


def write_form(backbone: LoadedBackbone, name: str, folder: Path) -> tuple[float, str]:
    """Write a backbone in one form into an existing folder, load what was written, and compare.

    Returns:
        The largest difference of a feature, as a share of the largest feature; and lines of Python that load the files.

    Raises:
        BackboneError: the form does not suit the backbone, lacks its package, or gives other features.
    """
    written = FORMS[name](backbone, folder)
    return difference(backbone, written.run), written.usage
