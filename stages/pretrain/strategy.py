"""The base of strategies: methods that adapt a backbone to labels, all of them or few.

A strategy is a method like any other, so it has the loop of pretraining: checkpoints, exact resumption, views, budgets,
notes and the checks for collapse. What it adds is here: only labelled images are seen, a share of each class where the
run asks for few, and a linear classifier is saved as a head.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import Assigner, Classifier, Projector
from reprise.reading.share import drawn_of_each
from reprise.runtime.seeds import numpy_rng
from stages.pretrain.method import Context, Method
from stages.pretrain.params import MethodParams


class StrategyParams(MethodParams):
    """Parameters of every strategy. A short budget at a low rate is theirs, where the run sets none."""

    epochs: Annotated[
        Annotated[int, Field(ge=1, le=100_000)] | None,
        meaning("Training passes over the labelled images this many times; null takes train.epochs.", "epochs"),
    ] = 10
    learning_rate: Annotated[
        Annotated[float, Field(gt=0)] | None,
        meaning("This is the peak learning rate, at a batch of 256 images; null takes train.learning_rate."),
    ] = 0.05
    warmup_epochs: Annotated[
        Annotated[int, Field(ge=0, le=100_000)] | None,
        meaning("The rate rises for this long; null takes train.warmup_epochs.", "epochs"),
    ] = 0
    clip_norm: Annotated[
        Annotated[float, Field(ge=0)] | None,
        meaning("The gradient is cut to this length, 0 for no limit; null takes train.clip_norm."),
    ] = 5.0
    percent: Annotated[
        float,
        Field(gt=0, le=100),
        meaning("This share of the labelled training images of each class is seen, one of each at least.", "percent"),
    ] = 100.0


class Strategy(Method):
    """One view an image, and a linear classifier on the backbone that begins at zero.

    Attributes:
        classifier: (B, d) features -> (B, K) logits; saved as the head `classifier`.
    """

    Params = StrategyParams
    takes_few = True
    views = 1
    smallest_batch = 2  # normalisation needs two images
    needs = ("clusters",)
    params: StrategyParams

    def __init__(self, backbone: nn.Module, params: StrategyParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.classifier: Any = self.build_classifier(backbone, context)
        if params.percent < 100:
            self.notes.append(f"{context.images} labelled images are seen (`percent: {params.percent:g}`).")

    @classmethod
    def chosen_images(cls, params: StrategyParams, clusters: np.ndarray, seed: int) -> np.ndarray:  # type: ignore[override]
        """Choose the labelled images, or a share of each class at random."""
        return share_of_each_class(clusters, params.percent, numpy_rng(seed, "labels"))

    def build_classifier(self, backbone: nn.Module, context: Context) -> nn.Module:
        """Build the head that the loss reads; it states its `widths`."""
        return Classifier(backbone.num_features, context.clusters)

    def heads(self) -> dict[str, Projector | Classifier | Assigner]:
        """Return the classifier."""
        return {"classifier": self.classifier}


def share_of_each_class(classes: np.ndarray, percent: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a share of every class, one image of each at least.

    Args:
        classes: (n,) int64, -1 for images that have none; these are never drawn.
        percent: of each class; 100 takes all without drawing.
        rng: of the draw.

    Returns:
        Positions, int64, ascending.
    """
    if percent == 100:
        return np.flatnonzero(classes >= 0)
    members = [np.flatnonzero(classes == name) for name in np.unique(classes[classes >= 0])]
    return np.sort(drawn_of_each(members, percent, rng))


def images_of(views: list[Tensor]) -> Tensor:
    """Return the one view of each image, (B, C, S, S)."""
    (view,) = views
    return view
