"""The protocol of models that are trained on images and are no backbones: autoencoders, tokenizers.

A kind of model is one file in `reprise/training/models`, or in `plugins/models` of the user's project; its name is the
file's. Rows of the table `models` name it (`model: autoencoder`), and the stage `train_models` trains it for every
seed. What others need of a trained model goes through this protocol, so that extractors serve every kind.

Legend: n images, S their side, C channels, d numbers of a code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from reprise.artifacts.weights.models import CONFIG, read_model
from reprise.config.params import StrictModel, parse
from reprise.config.plug_ins.registry import load_class
from reprise.runtime.device import Compute

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TrainedModel:
    """A trained network and how it came about.

    Attributes:
        network: in evaluation mode; its state dictionary is what is kept.
        history: one row an epoch, as `reprise.training.fit.fit` returns them.
        notes: sentences about what is not as it was asked for.
    """

    network: nn.Module
    history: list[dict[str, float]]
    notes: list[str]


class Model(ABC):
    """Base of all kinds of models.

    Attributes:
        Params: the typed parameter class.
    """

    Params: ClassVar[type[StrictModel]] = StrictModel

    def __init__(self, params: Any, seed: int, compute: Compute) -> None:
        self.params, self.seed, self.compute = params, seed, compute

    @classmethod
    def modules(cls, params: Any) -> list[str]:
        """List the modules that the model looks up by name; their code counts as its own. None by default."""
        return []

    @abstractmethod
    def build(self, channels: int) -> nn.Module:
        """Build the untrained network on the device; initial weights come from torch's global generator.

        Args:
            channels: C, bands of the images.
        """

    @abstractmethod
    def train(self, images: np.ndarray, work: Path) -> TrainedModel:
        """Train on images, without labels.

        Args:
            images: (n, S, S, C) uint8, training images sorted by key. They may lie on the disk, or be decoded as they
                are read: take them in slices.
            work: a locked folder for checkpoints.

        Raises:
            TrainingError: the loss is not finite.
        """

    @abstractmethod
    def codes(self, network: nn.Module, images: np.ndarray) -> np.ndarray:
        """Describe images by their codes: (n, S, S, C) uint8 -> (n, d) float32.

        Args:
            network: as `train` returned it, or built and loaded.
        """

    def seen(self, images: np.ndarray) -> np.ndarray:
        """Return images as the network sees them, such as scaled down: (n, S, S, C) uint8 -> (n, s, s, C) uint8."""
        return np.asarray(images)

    def restored(self, network: nn.Module, images: np.ndarray) -> np.ndarray | None:
        """Restore images from their codes, beside which they are shown.

        Args:
            network: as for `codes`.
            images: (n, s, s, C) uint8, as `seen` returns them.

        Returns:
            (n, s, s, C) float32 from 0 to 1; None for a kind that restores nothing.
        """
        return None


def load_model(folder: Path, compute: Compute) -> tuple[Model, nn.Module]:
    """Load a trained model from its folder.

    Returns:
        The model with its parameters, and its network in evaluation mode, frozen.

    Raises:
        BackboneError: a file is missing or damaged, or the weights do not fit the network.
        ParameterError: no plug-in is the kind of the model, or its parameters are not those of the kind.
    """
    from reprise.networks.assemble import Mismatch, load_bare

    config, file = read_model(folder)
    model_class = load_class("models", config.model, Model, f"{folder / CONFIG}: model")  # type: ignore[type-abstract]
    params = parse(model_class.Params, config.parameters, f"{folder / CONFIG}: parameters")
    model = model_class(params, config.seed, compute)
    again = "Run `dvc repro train_models` to train it again."
    mismatch = Mismatch(f"the weights do not fit a model of the kind '{config.model}'", str(folder), again)
    network = load_bare(file, lambda: model.build(config.channels), mismatch)
    return model, network.eval().requires_grad_(False)
