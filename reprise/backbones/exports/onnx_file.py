"""`onnx`: the backbone as an ONNX file, held against onnxruntime."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import torch
from torch import Tensor

from reprise.backbones.exports.form import Written, missing, shapes
from reprise.backbones.exports.torch_program import program_of
from reprise.backbones.loaded import LoadedBackbone

FILE = "backbone.onnx"


def write_onnx(backbone: LoadedBackbone, folder: Path) -> Written:
    """Write the file and open it in onnxruntime.

    Raises:
        BackboneError: a package is missing, or torch cannot trace the network.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise missing(package, "onnx")
    import onnxruntime

    path = folder / FILE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own functions
        torch.onnx.export(
            program_of(backbone),
            f=str(path),
            input_names=["images"],
            output_names=["features"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])

    usage = f"""import onnxruntime

session = onnxruntime.InferenceSession("{FILE}")
(features,) = session.run(None, {{"images": images}})  # float32 {shapes(backbone)}"""
    return Written(run, usage)
