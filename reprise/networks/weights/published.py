"""The weights that timm's authors publish, from the Hugging Face hub or its cache: as safetensors or not at all.

timm's own loader falls back to a pickle where the hub has no safetensors, and to any address that its table names. Here
the file is fetched first, by its name, and timm is only given the path of a safetensors file.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from reprise.artifacts.weights.hub import fetch_weights
from reprise.artifacts.weights.tensors import TensorFile
from reprise.config.errors import BackboneError
from reprise.networks.backbone import backbone_named, for_bands
from reprise.networks.torchvision_schemas import ensure_torchvision_imports

_SAFE_NAMES = {  # timm's names -> the file beside it that holds no pickle
    "pytorch_model.bin": "model.safetensors",
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
}


def published_file(architecture: str) -> TensorFile:
    """Fetch the published safetensors file of an architecture and check its header.

    Raises:
        BackboneError: the architecture is unknown, nothing is published for it in that format, or the hub cannot be
            reached.
    """
    stated = backbone_named(architecture).made_for()
    name = str(stated.get("hf_hub_filename") or "pytorch_model.bin")
    return fetch_weights(str(stated.get("hf_hub_id") or ""), _SAFE_NAMES.get(name, name), f"timm:{architecture}")


def published_network(architecture: str, channels: int) -> tuple[nn.Module, list[float], list[float]]:
    """Load timm's network with its published weights, adapted by timm to the number of channels.

    Returns:
        the network, and mean and standard deviation per channel on the 0..1 scale that it was trained with.

    Raises:
        BackboneError: as `published_file`; or timm cannot load the file.
    """
    file = published_file(architecture)
    ensure_torchvision_imports()
    import timm

    # With a file, timm asks neither the hub nor an address, and its ending makes timm read safetensors.
    source: dict[str, Any] = {"file": str(file.path), "custom_load": False}
    try:
        network = timm.create_model(
            architecture, pretrained=True, num_classes=0, in_chans=channels, pretrained_cfg_overlay=source
        )
    except Exception as error:  # a thousand networks, each with its own conversion of weights
        raise BackboneError(
            "timm cannot load the published weights",
            where=architecture,
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            fix="Choose another network, or a .safetensors file.",
        ) from error
    mean, std = (list(network.pretrained_cfg[name]) for name in ("mean", "std"))
    return network, for_bands(mean, channels), for_bands(std, channels)
