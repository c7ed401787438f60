"""`backbone`: features of a network as it is: untrained, from a file, or with timm's own weights.

`weights` is one of

- `random`: initialised from the seed, a reference that costs nothing (what convolutions see before they learn);
- a folder with `backbone.safetensors` and `config.json`, as every run leaves in data/runs/<run>/<seed>; the folder says
  its architecture, input size and normalisation, `architecture` must be left out;
- a `.safetensors` file with timm's key names, of the `architecture` named;
- `pretrained`: the weights that timm's authors publish for the `architecture`, taken from the Hugging Face cache or
  downloaded; as safetensors only, for a pickle is never opened.

DVC does not watch a file outside of the graph: name its `sha256`, and an exchanged file is an error instead of a stale
result. Runs of the same graph need none of this: `on: embed/<run>` in `mines` takes their features and declares it.

Images are normalised as the weights ask for (`random` and plain files: mean and deviation of the images themselves),
scaled to `size` where it is set, and seen in float32. For published weights they are cut and scaled as their authors do
(`crop_pct`, `interpolation`), starting from the square that all extractors get.

Legend: n images, S their side, C channels, d dimensions.

Source: no publication; the weights are those of whoever trained them.

Checked by: tests/stages/mine/test_extractors.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from reprise.artifacts.weights.backbones import CONFIG, WEIGHTS, open_weights, preparation_of, read_config
from reprise.artifacts.weights.tensors import TensorFile
from reprise.config.errors import BackboneError, ImageRefused
from reprise.config.params import BackboneName, StrictModel, meaning
from reprise.config.plug_ins.registry import module_of
from reprise.config.texts.text_forms import with_pattern
from reprise.media.lookup import modality
from reprise.networks.assemble import Mismatch, assemble, load_bare
from reprise.networks.backbone import build_backbone, published_preparation
from reprise.networks.weights.published import published_network
from reprise.runtime.device import Compute
from reprise.runtime.seeds import seed_torch
from reprise.storage.listing import sha256_of
from stages.mine.extractor import Extractor


class BackboneParams(StrictModel):
    """Parameters of `backbone`."""

    weights: Annotated[
        str,
        Field(min_length=1),
        meaning(
            "The network is untrained (`random`), has timm's weights (`pretrained`), or comes from this folder or file."
        ),
    ] = "random"
    architecture: Annotated[
        BackboneName | None,
        meaning("The network is this backbone or timm model; null where the folder of `weights` names it."),
    ] = None
    stem: Annotated[
        Literal["auto", "small", "imagenet"],
        meaning("Small images keep their resolution with `small`; `auto` decides by their size."),
    ] = "auto"
    size: Annotated[
        Annotated[int, Field(ge=8, le=1024)] | None,
        meaning(
            "The network sees images of this side; null takes image.size, or the size that the folder names.", "pixels"
        ),
    ] = None
    batch_size: Annotated[
        int, Field(ge=1, le=65536), meaning("The network sees this many images at a time.", "images")
    ] = 256
    sha256: Annotated[
        Annotated[str, with_pattern("[0-9a-f]{64}", "a SHA-256 has 64 lower-case hexadecimal digits")] | None,
        meaning("The file of the weights has this checksum; null accepts any content."),
    ] = None

    @model_validator(mode="after")
    def _named_where_needed(self) -> Self:
        folder = self.weights not in ("random", "pretrained") and not self.weights.endswith(".safetensors")
        if folder == (self.architecture is not None):
            raise ValueError(
                "architecture belongs to `random`, `pretrained` and .safetensors files, and is left out for a folder"
            )
        return self


class BackboneFeatures(Extractor):
    """The network's pooled features, (n, num_features)."""

    Params = BackboneParams
    reads_once = True
    params: BackboneParams

    def __init__(self, params: BackboneParams, seed: int, compute: Compute) -> None:
        super().__init__(params, seed, compute)
        self.seeded = params.weights == "random"

    def files(self) -> list[Path]:
        """List the weights, and the configuration beside them: they lie outside of the graph."""
        path = Path(self.params.weights)
        if self.params.architecture is None:
            return [path / WEIGHTS, path / CONFIG]
        return [path] if path.suffix == ".safetensors" else []

    @classmethod
    def modules(cls, params: BackboneParams) -> list[str]:  # type: ignore[override]
        """Name the module of the backbone; none for the folder of a run that does not exist yet."""
        architecture = params.architecture
        if architecture is None and (Path(params.weights) / CONFIG).is_file():
            architecture = read_config(params.weights)["architecture"]
        return [] if architecture is None else [module_of("backbones", architecture)]

    def features(self, images: np.ndarray, work: Path) -> np.ndarray:
        """(n, S, S, C) uint8 -> (n, d) float32.

        Raises:
            BackboneError: unknown architecture, weights that cannot be had or do not fit, another file than named.
        """
        own = self.params.architecture is not None and self.params.weights != "pretrained"
        statistics = statistics_of(images) if own else None
        return self.described(
            images, self.params.batch_size, "backbone features", images.shape[3], images.shape[1], statistics
        )

    def describer(self, *prepared: Any) -> Callable[[np.ndarray], np.ndarray]:
        """Load the network; see `loaded` for what must be prepared."""
        network, size, mean, std, preparation = self.loaded(*prepared)
        network, media = network.eval().requires_grad_(False).to(self.compute.device), modality()
        shift, scale = (torch.tensor(v, device=self.compute.device).view(1, -1, 1, 1) for v in (mean, std))

        def describe(block: np.ndarray) -> np.ndarray:
            squares = np.stack([media.resize_to_square(image, size, **preparation) for image in block])
            with torch.inference_mode():
                x = torch.from_numpy(squares).to(self.compute.device).permute(0, 3, 1, 2).float().div_(255.0)
                found: np.ndarray = network((x - shift) / scale).float().cpu().numpy()
            return found

        return describe

    def loaded(
        self, channels: int, side: int, statistics: tuple[list[float], list[float]] | None
    ) -> tuple[torch.nn.Module, int, Any, Any, dict[str, Any]]:
        """Load the network, with its input side, mean and standard deviation per channel (0..1), and preparation.

        Args:
            channels: C, bands of the images.
            side: S.
            statistics: mean and deviation of the images, where the weights come with none.
        """
        params = self.params
        size = params.size or side
        path = Path(params.weights)
        if params.architecture is None:
            check_digest(path / WEIGHTS, params.sha256)
            config = read_config(path)
            if config["channels"] != channels:
                raise BackboneError(
                    "the backbone sees images of other channels",
                    where=path / CONFIG,
                    found=f"{config['channels']} channels, image.channels {channels}",
                    fix="Set image.channels to the same, or name another backbone.",
                )
            network = assemble(config, *open_weights(path), where=str(path)).backbone
            side = params.size or config["input_size"]
            return network, side, config["mean"], config["std"], preparation_of(config)
        if params.weights == "pretrained":
            network, mean, std = published_network(params.architecture, channels)
            return network, size, mean, std, published_preparation(network.pretrained_cfg, params.architecture)
        assert statistics is not None
        mean, std = statistics
        seed_torch(self.seed, "random backbone")
        if params.weights == "random":
            return build_backbone(params.architecture, channels, size, params.stem), size, mean, std, {}
        check_digest(path, params.sha256)
        return bare_network(path, params.architecture, channels, size, params.stem), size, mean, std, {}


def bare_network(path: Path, architecture: str, channels: int, size: int, stem: str) -> torch.nn.Module:
    """Load a .safetensors file without a configuration.

    Raises:
        BackboneError: it cannot be read, or does not fit the architecture.
    """
    mismatch = Mismatch(
        "the weights do not fit the architecture",
        str(path),
        "Name the architecture, stem and image.channels that they were trained with.",
    )
    file = TensorFile.open(path, "Name a .safetensors file.")
    return load_bare(file, lambda: build_backbone(architecture, channels, size, stem), mismatch)


def statistics_of(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Compute mean and standard deviation per channel on the 0..1 scale, over evenly spaced images."""
    pixels = images[:: max(1, len(images) // 10_000)].reshape(-1, images.shape[3]).astype(np.float64) / 255
    return pixels.mean(axis=0).tolist(), np.maximum(pixels.std(axis=0), 1 / 255).tolist()


def check_digest(path: Path, wanted: str | None) -> None:
    """Refuse a file whose content is not the one named.

    Raises:
        BackboneError: missing, or another SHA-256.
    """
    if not path.is_file():
        raise BackboneError("the weights are not there", where=path, found="no file", fix="Correct weights.")
    try:
        found, _ = sha256_of(path)
    except ImageRefused as refusal:
        raise BackboneError(
            "the weights cannot be read", where=path, found=refusal.found, fix="Correct weights."
        ) from refusal
    if wanted is not None and found != wanted:
        raise BackboneError(
            "the weights are not those that are named",
            where=path,
            found=f"sha256 {found}",
            fix="Restore the file, or write this sha256 into extractors.*.sha256.",
        )
