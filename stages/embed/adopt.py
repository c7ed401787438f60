"""`python -m stages.embed.adopt`: write any backbone as the folder of a run, which embed and probe can read.

A backbone is the folder of a run (or the backbone.safetensors in it), any safetensors file with timm's key names and
`--architecture`, or `timm:NAME`. Only safetensors are read: a pickled checkpoint can run code when it is opened.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.artifacts.backbones import CONFIG, WEIGHTS
from reprise.config.errors import BackboneError
from reprise.media.image.transform import TRIANGLE
from reprise.runtime.entry import run_stage

if TYPE_CHECKING:
    import numpy as np

TIMM = "timm:"


def main(argv: list[str]) -> None:
    """Read or build a backbone, check it on one image of zeros, and write it."""
    parser = argparse.ArgumentParser(prog="python -m stages.embed.adopt", description=__doc__)
    parser.add_argument("--backbone", required=True, help="a run's folder, a .safetensors file, or timm:NAME")
    parser.add_argument("--architecture", help="of a .safetensors file without a run's config.json beside it")
    parser.add_argument("--stem", default="imagenet", choices=("imagenet", "small", "auto"), help="of ResNets")
    parser.add_argument("--size", type=int, help="image side in pixels; by default that of the architecture")
    parser.add_argument("--channels", type=int, default=3, choices=(1, 3))
    parser.add_argument("--pretrained", action="store_true", help="timm:NAME with its published weights")
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")
    arguments = parser.parse_args(argv)

    from reprise.artifacts.backbones import write_backbone
    from reprise.storage.atomic import atomic_directory

    weights, heads, config = _adopted(arguments)
    with atomic_directory(arguments.out) as folder:
        write_backbone(folder, weights, heads, config)
    print(f"backbone: {config['architecture']}, {config['num_features']} features at {config['input_size']} pixels")
    print(_preparation_in_words(config))


def _preparation_in_words(config: dict[str, Any]) -> str:
    """Say how images will be cut and scaled for this backbone."""
    share, side = config.get("crop_pct", 1.0), config["input_size"]
    sides = "each side is" if config.get("crop_mode") == "squash" else "the shorter side is"
    scaled = f"{sides} scaled to {int(side / share)} pixels ({config.get('interpolation', TRIANGLE)})"
    cut = f", and the central {side} are kept (crop_pct {share:g})" if share != 1.0 else ""
    return f"images: {scaled}{cut}"


def _adopted(arguments: argparse.Namespace) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Return weights, heads and configuration.

    Raises:
        BackboneError: the backbone is unknown, not in safetensors, without configuration, or does not fit its
            architecture.
    """
    if arguments.backbone.startswith(TIMM):
        return _from_timm(arguments, arguments.backbone.removeprefix(TIMM))
    path = Path(arguments.backbone)
    folder = path if path.is_dir() else path.parent
    if (folder / CONFIG).is_file() and (path.is_dir() or path.name == WEIGHTS) and arguments.architecture is None:
        return _from_run(folder)
    if path.is_dir():
        raise BackboneError(
            "this is not the folder of a run",
            where=path,
            found=f"no {CONFIG}",
            fix="Name a folder below data/runs, or a .safetensors file and --architecture.",
        )
    return _from_file(arguments, path, arguments.architecture)


def _from_run(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    from reprise.artifacts.backbones import read_config, read_weights
    from reprise.networks.assemble import assemble

    config, (weights, heads) = read_config(folder), read_weights(folder)
    assemble(config, weights, heads, where=str(folder))  # raises here, not in the stage that reads the folder
    return weights, heads, config


def _from_timm(
    arguments: argparse.Namespace, name: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    import torch

    from reprise.networks.backbone import build_backbone
    from reprise.networks.state import arrays_of

    torch.manual_seed(0)  # untrained, but the same every time
    if not arguments.pretrained:
        made_for = _made_for(name, arguments.size)
        network = build_backbone(name, arguments.channels, made_for.size, arguments.stem)
        return arrays_of(network.state_dict()), {}, _config(arguments, name, made_for)
    arguments.stem = "imagenet"
    return _from_file(arguments, _published(name), name)


def _published(name: str) -> Path:
    """Fetch the safetensors file that timm's authors publish for an architecture, from the hub or its local cache.

    timm's own loader is not used: where the hub has no safetensors, it falls back to a pickle.
    """
    from reprise.networks.backbone import backbone_named

    repository = backbone_named(name).made_for().get("hf_hub_id")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(str(repository), "model.safetensors"))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise BackboneError(
            "the published weights cannot be fetched",
            where=f"{TIMM}{name}",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            fix="Run where the Hugging Face hub can be reached or its cache holds them, or leave out --pretrained for "
            "an untrained network.",
        ) from error


def _from_file(
    arguments: argparse.Namespace, path: Path, architecture: str | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not path.is_file():
        raise BackboneError(
            "the file of weights is missing",
            where=path,
            found="no such file",
            fix="Name a .safetensors file, the folder of a run, or timm:NAME.",
        )
    try:
        weights = load(path.read_bytes())
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise BackboneError(
            "the weights are not in safetensors, the only format read here: a pickled checkpoint can run code",
            where=path,
            found=error,
            fix="Convert them where you trust them: safetensors.torch.save_file(model.state_dict(), FILE).",
        ) from error
    if architecture is None:
        raise BackboneError(
            "the architecture of these weights is unknown",
            where=path,
            found=f"no {CONFIG} of a run beside the file",
            fix="Name it: --architecture resnet18, or any other name of timm.",
        )
    made_for = _made_for(architecture, arguments.size)
    kept = {k: v for k, v in weights.items() if not any(k.startswith(f"{name}.") for name in made_for.classifier)}
    return _fitted(arguments, architecture, made_for, kept, str(path))


def _fitted(
    arguments: argparse.Namespace,
    name: str,
    made_for: MadeFor,
    weights: dict[str, np.ndarray],
    where: str,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Check that `weights` fit an architecture in every key and shape; return them with its configuration."""
    from reprise.networks.backbone import build_backbone

    network = build_backbone(name, arguments.channels, made_for.size, arguments.stem)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: value.shape for key, value in weights.items()}
    wrong = [f"{key} is missing" for key in expected if key not in found]
    wrong += [f"{key} is unknown" for key in found if key not in expected]
    wrong += [f"{k} is {found[k]}, not {shape}" for k, shape in expected.items() if k in found and found[k] != shape]
    if wrong:
        raise BackboneError(
            f"the weights do not fit {name}",
            where=where,
            found=f"{'; '.join(wrong[:5])}{f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''}",
            fix="Name the right --architecture, and --stem small for a ResNet whose first convolution is 3x3.",
        )
    return weights, {}, _config(arguments, name, made_for)


@dataclass(frozen=True)
class MadeFor:
    """The images that an architecture's published weights expect.

    Attributes:
        size: side in pixels.
        mean, std: per channel, on the 0..1 scale.
        classifier: names of the layers that are left out.
        preparation: how images are cut and scaled (`crop_pct`, `interpolation`, `crop_mode`).
    """

    size: int
    mean: list[float]
    std: list[float]
    classifier: tuple[str, ...]
    preparation: dict[str, Any]


def _made_for(name: str, size: int | None) -> MadeFor:
    """Return what the published weights of an architecture expect; `size` replaces the side where it is given."""
    from reprise.networks.backbone import backbone_named, published_preparation

    config = backbone_named(name).made_for()
    side = int(config.get("input_size", (3, 224, 224))[-1])
    mean, std = (list(config.get(k, v)) for k, v in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))))
    classifier = config.get("classifier") or ()
    left_out = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return MadeFor(size or side, mean, std, left_out, published_preparation(config, name))


def _config(arguments: argparse.Namespace, name: str, made_for: MadeFor) -> dict[str, Any]:
    """Make a config.json like that of pretrain, as far as it is known; the width is measured on one image of zeros."""
    import torch

    from reprise.networks.backbone import build_backbone

    network = build_backbone(name, arguments.channels, made_for.size, arguments.stem).eval()
    with torch.inference_mode():
        features = network(torch.zeros(1, arguments.channels, made_for.size, made_for.size))
    if features.ndim != 2:
        raise BackboneError(
            "this architecture does not return one feature vector for each image",
            where=name,
            found=f"an output of shape {tuple(features.shape)}",
            fix="Choose another architecture of timm.",
        )
    grey = arguments.channels == 1
    return {
        "architecture": name,
        "options": {},
        "stem": arguments.stem,
        "input_size": made_for.size,
        "channels": arguments.channels,
        "mean": [sum(made_for.mean) / 3] if grey else made_for.mean,
        "std": [sum(made_for.std) / 3] if grey else made_for.std,
        **made_for.preparation,
        "num_features": int(features.shape[1]),
        "heads": {},
        "method": "adopted",
        "source": arguments.backbone if arguments.backbone.startswith(TIMM) else Path(arguments.backbone).name,
        "weights": "published" if arguments.pretrained else "file" if arguments.architecture else "untrained",
    }


if __name__ == "__main__":
    run_stage(main)
