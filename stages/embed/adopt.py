"""`python -m stages.embed.adopt`: write any backbone as the folder of a run, which embed and probe can read.

A backbone is the folder of a run (or the backbone.safetensors in it), any safetensors file with timm's key names and
`--architecture`, or `timm:NAME`. Only safetensors are read: a pickled checkpoint can run code when it is opened.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.artifacts.weights.backbones import CONFIG, WEIGHTS
from reprise.config.errors import BackboneError
from reprise.config.params import MOST_BANDS
from reprise.media.image.transform import TRIANGLE
from reprise.runtime.entry import run_stage

if TYPE_CHECKING:
    import numpy as np

    from reprise.networks.weights.made_for import MadeFor

TIMM = "timm:"


def main(argv: list[str]) -> None:
    """Read or build a backbone, check it on one image of zeros, and write it."""
    parser = argparse.ArgumentParser(prog="python -m stages.embed.adopt", description=__doc__)
    parser.add_argument("--backbone", required=True, help="a run's folder, a .safetensors file, or timm:NAME")
    parser.add_argument("--architecture", help="of a .safetensors file without a run's config.json beside it")
    parser.add_argument("--stem", default="imagenet", choices=("imagenet", "small", "auto"), help="of ResNets")
    parser.add_argument("--size", type=_side, help="image side in pixels; by default that of the architecture")
    parser.add_argument("--channels", type=int, default=3, choices=range(1, MOST_BANDS + 1), metavar="1..64")
    parser.add_argument("--pretrained", action="store_true", help="timm:NAME with its published weights")
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")
    arguments = parser.parse_args(argv)

    from reprise.artifacts.weights.backbones import write_backbone
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


def _side(text: str) -> int:
    from reprise.artifacts.weights.backbones import LARGEST_SIDE, SMALLEST_SIDE

    if not text.isascii() or not text.isdecimal() or not SMALLEST_SIDE <= int(text[:9]) <= LARGEST_SIDE:
        raise argparse.ArgumentTypeError(f"a whole number of pixels from {SMALLEST_SIDE} to {LARGEST_SIDE}")
    return int(text)


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
    from reprise.artifacts.weights.backbones import open_weights, read_config, read_weights
    from reprise.networks.assemble import Mismatch, assemble, feature_width

    config = read_config(folder)
    # What is wrong is found here, and not in the stage that reads the folder.
    network = assemble(config, *open_weights(folder), where=str(folder))
    fix = "Take the folder from whoever trained the backbone."
    mismatch = Mismatch("the backbone does not return one feature vector for each image", str(folder), fix)
    feature_width(network.backbone, config["channels"], config["input_size"], mismatch)
    return *read_weights(folder), config


def _from_timm(
    arguments: argparse.Namespace, name: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    import torch

    from reprise.networks.backbone import build_backbone
    from reprise.networks.state import arrays_of
    from reprise.networks.weights.made_for import made_for
    from reprise.networks.weights.published import published_file

    torch.manual_seed(0)  # untrained, but the same every time
    if not arguments.pretrained:
        expected = made_for(name, arguments.size)
        network = build_backbone(name, arguments.channels, expected.size, arguments.stem)
        return arrays_of(network.state_dict()), {}, _config(arguments, name, expected)
    arguments.stem = "imagenet"
    return _from_file(arguments, published_file(name).path, name)


def _from_file(
    arguments: argparse.Namespace, path: Path, architecture: str | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    from reprise.artifacts.weights.tensors import TensorFile
    from reprise.networks.assemble import Mismatch, check_fit
    from reprise.networks.backbone import build_backbone
    from reprise.networks.weights.made_for import made_for

    if not path.is_file():
        raise BackboneError(
            "the file of weights is missing",
            where=path,
            found="no such file",
            fix="Name a .safetensors file, the folder of a run, or timm:NAME.",
        )
    file = TensorFile.open(
        path,
        "Convert them where you trust them: safetensors.torch.save_file(model.state_dict(), FILE).",
        "the weights are not in safetensors, the only format read here: a pickled checkpoint can run code",
    )
    if architecture is None:
        raise BackboneError(
            "the architecture of these weights is unknown",
            where=path,
            found=f"no {CONFIG} of a run beside the file",
            fix="Name it: --architecture resnet18, or any other name of timm.",
        )
    expected = made_for(architecture, arguments.size)
    kept = {k: v for k, v in file.tensors.items() if not any(k.startswith(f"{name}.") for name in expected.classifier)}
    mismatch = Mismatch(
        f"the weights do not fit {architecture}",
        str(path),
        "Name the right --architecture, and --stem small for a ResNet whose first convolution is 3x3.",
    )
    check_fit(lambda: build_backbone(architecture, arguments.channels, expected.size, arguments.stem), kept, mismatch)
    weights = file.read()
    return {k: weights[k] for k in kept}, {}, _config(arguments, architecture, expected)


def _config(arguments: argparse.Namespace, name: str, expected: MadeFor) -> dict[str, Any]:
    """Make a config.json like that of pretrain, as far as it is known; the width is measured on one image of zeros."""
    from reprise.networks.assemble import Mismatch, feature_width
    from reprise.networks.backbone import build_backbone

    network = build_backbone(name, arguments.channels, expected.size, arguments.stem)
    fix = "Choose another architecture of timm, or another --size."
    mismatch = Mismatch("this architecture does not return one feature vector for each image", name, fix)
    return {
        "architecture": name,
        "options": {},
        "stem": arguments.stem,
        **expected.entries(arguments.channels),
        "num_features": feature_width(network, arguments.channels, expected.size, mismatch),
        "heads": {},
        "method": "adopted",
        "source": arguments.backbone if arguments.backbone.startswith(TIMM) else Path(arguments.backbone).name,
        "weights": "published" if arguments.pretrained else "file" if arguments.architecture else "untrained",
    }


if __name__ == "__main__":
    run_stage(main)
