"""Weights from the Hugging Face hub, or from its cache on this machine: safetensors and nothing else."""

from __future__ import annotations

from reprise.artifacts.weights.tensors import TensorFile
from reprise.config.errors import BackboneError


def fetch_weights(repository: str, name: str, where: str) -> TensorFile:
    """Fetch a file and check its header.

    Args:
        repository: "owner/name", or "owner/name@revision"; empty where nothing is published.
        name: the file's name.
        where: what asked for it, for messages.

    Raises:
        BackboneError: the file is no safetensors file, or cannot be fetched.
    """
    if not repository or not name.endswith(".safetensors"):
        raise BackboneError(
            "no weights are published for this architecture in safetensors, the only format read here",
            where=where,
            found=f"the file {name} of {repository}" if repository else "no repository of the Hugging Face hub",
            fix="Choose another network of timm, or convert the weights where you trust them to a .safetensors file.",
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    owner_and_name, _, revision = repository.partition("@")
    try:
        path = hf_hub_download(owner_and_name, name, revision=revision or None)
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise BackboneError(
            "the published weights cannot be fetched",
            where=where,
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            fix="Run where the Hugging Face hub can be reached or its cache holds them. Or fetch "
            f"https://huggingface.co/{owner_and_name}/resolve/{revision or 'main'}/{name} on another machine, put the "
            "file anywhere beside params.yaml, and name it with its architecture in place of the published name.",
        ) from error
    return TensorFile.open(path, "Remove it from the cache of the Hugging Face hub, and fetch it again.")
