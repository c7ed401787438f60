"""`model`: the codes of a model that is trained on the images, a row of `models`.

The stage `train_models` trains the model for every seed (reprise/training/models); this extractor only describes the
images with it. With the kind `autoencoder` these are the features of G-SimCLR.

Source: Chakraborty et al. 2020, for the code of an autoencoder as features.

Checked by: tests/stages/models/test_train.py; docs/explanation/mining.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np

from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import Name
from reprise.training.model import load_model
from stages.mine.extractor import Extractor


class ModelParams(StrictModel):
    """Parameters of `model`."""

    model: Annotated[Name, meaning("The images are described by this row of `models`, which is trained here.")]


class ModelCodes(Extractor):
    """The code of each image, (n, d) as the kind of the model says."""

    Params = ModelParams
    params: ModelParams

    @classmethod
    def model_of(cls, params: ModelParams) -> str:  # type: ignore[override]
        """Name the row of `models`."""
        return params.model

    def files(self) -> list[Path]:
        """List the files of the trained model."""
        return sorted(self.trained.iterdir()) if self.trained is not None and self.trained.is_dir() else []

    def features(self, images: np.ndarray, work: Path) -> np.ndarray:
        """(n, S, S, C) uint8 -> (n, d) float32.

        Raises:
            BackboneError: the trained model is missing or damaged.
        """
        assert self.trained is not None, "the stage gives an extractor with a model its folder"
        model, network = load_model(self.trained, self.compute)
        return model.codes(network, images)
