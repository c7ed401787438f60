"""`timm` and `huggingface`: a folder in the form of the Hugging Face hub, which timm and transformers load.

Networks of timm are saved under timm's own name, so that timm alone loads them, strictly. Our own, and networks of timm
whose first layers Reprise replaced, are saved under the name that timm_entry.py registers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reprise.artifacts.weights.tensors import write_tensors
from reprise.backbones.exports.form import Form, Run, shapes
from reprise.backbones.loaded import LoadedBackbone
from reprise.config.errors import BackboneError
from reprise.networks.backbone import resolve_stem
from reprise.networks.state import arrays_of
from reprise.networks.torchvision_schemas import ensure_torchvision_imports
from reprise.storage.atomic import write_json

WEIGHTS, CONFIG = "model.safetensors", "config.json"  # the names that both libraries look for


def _arguments(backbone: LoadedBackbone) -> tuple[str, dict[str, Any]]:
    """Return name and arguments with which timm builds the very same network."""
    config = backbone.config
    options = {k: v for k, v in config["options"].items() if v is not None}
    plain = {"in_chans": backbone.channels, **options}
    for arguments in ({**plain, "img_size": backbone.input_size}, plain):
        if _is_timms_own(config["architecture"], arguments, backbone.network):
            return config["architecture"].split(".")[0], arguments
    stem = resolve_stem(config["stem"], backbone.input_size)
    from reprise.backbones.exports.timm_entry import NAME

    own = {"architecture": config["architecture"], "stem": stem, "options": options}
    return NAME, {**own, "img_size": backbone.input_size, "in_chans": backbone.channels}


def _is_timms_own(name: str, arguments: dict[str, Any], network: nn.Module) -> bool:
    """Tell whether timm's network of this name has exactly these weights and layers."""
    ensure_torchvision_imports()
    import timm

    if not timm.is_model(name.split(".", maxsplit=1)[0]):
        return False
    try:
        with torch.device("meta"):
            theirs = timm.create_model(name.split(".", maxsplit=1)[0], pretrained=False, num_classes=0, **arguments)
    except (TypeError, RuntimeError, AssertionError):
        return False

    def outline(of: nn.Module) -> list[tuple[str, str]]:
        return [(name, str(module)) for name, module in of.named_modules() if not list(module.children())]

    shapes = [{k: tuple(v.shape) for k, v in of.state_dict().items()} for of in (theirs, network)]
    return shapes[0] == shapes[1] and outline(theirs) == outline(network)


def _config(backbone: LoadedBackbone, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    stated, side = backbone.config, backbone.input_size
    return {
        "architecture": name,
        "num_classes": 0,
        "num_features": backbone.num_features,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [backbone.channels, side, side],
            "fixed_input_size": "img_size" in arguments,
            "interpolation": stated.get("interpolation", "bilinear"),
            "crop_pct": stated.get("crop_pct", 1.0),
            "crop_mode": stated.get("crop_mode", "center"),
            "mean": stated["mean"],
            "std": stated["std"],
            "num_classes": 0,
        },
    }


def _write(backbone: LoadedBackbone, folder: Path) -> Run:
    name, arguments = _arguments(backbone)
    write_tensors(folder / WEIGHTS, arrays_of(backbone.network.state_dict()))
    write_json(folder / CONFIG, _config(backbone, name, arguments))
    return _loaded(folder)


def _loaded(folder: Path) -> Run:
    import timm

    run: Run = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return run


def _usage(backbone: LoadedBackbone) -> str:
    name, _ = _arguments(backbone)
    entry = (
        "" if name == backbone.config["architecture"].split(".")[0] else "import reprise.backbones.exports.timm_entry\n"
    )
    return f"""import timm
{entry}
backbone = timm.create_model("local-dir:.", pretrained=True).eval()
features = backbone(images)  # {shapes(backbone)}"""


def _write_for_transformers(backbone: LoadedBackbone, folder: Path) -> Run:
    name, _ = _arguments(backbone)
    if name != backbone.config["architecture"].split(".")[0]:
        raise BackboneError(
            "transformers loads networks of timm only",
            where="reprise export --to huggingface",
            found=f"{backbone.config['architecture']}, which is built or changed by Reprise",
            fix="Export it with --to timm, whose folder the hub takes too, or with --to torch or onnx.",
        )
    run = _write(backbone, folder)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    write_json(folder / CONFIG, {"model_type": "timm_wrapper", "architectures": ["TimmWrapperModel"], **config})
    return run


def _usage_of_transformers(backbone: LoadedBackbone) -> str:
    return f"""from transformers import AutoModel

backbone = AutoModel.from_pretrained(".").eval()
features = backbone(images).pooler_output  # {shapes(backbone)}"""


TIMM = Form(f"{WEIGHTS} and {CONFIG}, which timm loads", _write, _usage)
HUGGINGFACE = Form(
    f"{WEIGHTS} and {CONFIG}, which transformers loads as well as timm; networks of timm only",
    _write_for_transformers,
    _usage_of_transformers,
)
