"""`timm` and `huggingface`: a folder in the form of the Hugging Face hub, which timm and transformers load.

Networks of timm are saved under timm's own name, so that timm alone loads them, strictly. Our own, and networks of timm
whose first layers Reprise replaced, are saved under the name that timm_entry.py registers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from reprise.artifacts.weights.tensors import write_tensors
from reprise.backbones.exports.form import Run, Written, shapes
from reprise.backbones.loaded import LoadedBackbone
from reprise.config.errors import BackboneError
from reprise.media.lookup import VOLUME
from reprise.networks.backbone import resolve_stem
from reprise.networks.state import arrays_of
from reprise.storage.atomic import write_json

WEIGHTS, CONFIG = "model.safetensors", "config.json"  # the names that both libraries look for


def _arguments(backbone: LoadedBackbone) -> tuple[str, dict[str, Any]]:
    """Return name and arguments with which timm builds the very same network."""
    from reprise.backbones.exports.timm_entry import NAME  # before timm itself, for which it prepares torchvision

    config = backbone.config
    options = {k: v for k, v in config["options"].items() if v is not None}
    model = config["architecture"].split(".")[0]  # behind the dot stands the tag of weights
    plain = {"in_chans": backbone.channels, **options}
    for arguments in ({**plain, "img_size": backbone.input_size}, plain):
        if _is_timms_own(model, arguments, backbone.network):
            return model, arguments
    stem = resolve_stem(config["stem"], backbone.input_size)
    own = {"architecture": config["architecture"], "stem": stem, "options": options}
    return NAME, {**own, "img_size": backbone.input_size, "in_chans": backbone.channels}


def _is_timms_own(model: str, arguments: dict[str, Any], network: nn.Module) -> bool:
    """Tell whether timm's network of this name has exactly these weights and layers."""
    import timm

    if not timm.is_model(model):
        return False
    try:
        with torch.device("meta"):
            theirs = timm.create_model(model, pretrained=False, num_classes=0, **arguments)
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
            "input_size": [backbone.channels, side, side],  # of volumes too: timm refuses four numbers, and none
            "fixed_input_size": "img_size" in arguments,
            "interpolation": stated.get("interpolation", "bilinear"),
            "crop_pct": stated.get("crop_pct", 1.0),
            "crop_mode": stated.get("crop_mode", "center"),
            "mean": stated["mean"],
            "std": stated["std"],
            "num_classes": 0,
        },
    }


def _write(backbone: LoadedBackbone, folder: Path, config: dict[str, Any]) -> Run:
    """Write weights and configuration, and load them with timm."""
    import timm

    write_tensors(folder / WEIGHTS, arrays_of(backbone.network.state_dict()))
    write_json(folder / CONFIG, config)
    run: Run = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return run


def write_for_timm(backbone: LoadedBackbone, folder: Path) -> Written:
    """Write the folder and load it with timm."""
    from reprise.backbones.exports.timm_entry import NAME

    name, arguments = _arguments(backbone)
    entry = "import reprise.backbones.exports.timm_entry\n" if name == NAME else ""
    usage = f"""import timm
{entry}
backbone = timm.create_model("local-dir:.", pretrained=True).eval()
features = backbone(images)  # {shapes(backbone)}"""
    return Written(_write(backbone, folder, _config(backbone, name, arguments)), usage)


def write_for_transformers(backbone: LoadedBackbone, folder: Path) -> Written:
    """Write a folder that transformers loads as well, and load it with timm, which it calls.

    Raises:
        BackboneError: the network sees volumes, or its features are no pooling of those of places.
    """
    from reprise.backbones.exports.timm_entry import NAME, has_head

    name, arguments = _arguments(backbone)
    lacks = "it sees volumes" if backbone.modality == VOLUME else "its features are no pooling of places"
    if backbone.modality == VOLUME or not has_head(backbone.network):
        raise BackboneError(
            "transformers loads networks of images whose features are pooled from places",
            where="reprise export --to huggingface",
            found=f"{backbone.config['architecture']}: {lacks}",
            fix="Export it with --to timm, whose folder the hub takes too, or with --to torch or onnx.",
        )
    entry = "import reprise.backbones.exports.timm_entry\n" if name == NAME else ""
    wrapper = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperModel"]}
    usage = f"""{entry}from transformers import AutoModel

backbone = AutoModel.from_pretrained(".").eval()
features = backbone(images).pooler_output  # {shapes(backbone)}"""
    network: Any = _write(backbone, folder, wrapper | _config(backbone, name, arguments))
    return Written(lambda images: network.forward_head(network.forward_features(images)), usage)
