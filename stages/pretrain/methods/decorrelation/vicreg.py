"""`vicreg`: variance, invariance, covariance; what keeps features apart is stated as a loss for each view alone.

Source: Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
ICLR 2022. Authors' code: facebookresearch/vicreg.

Idea: the two embeddings of an image are close (invariance), every dimension varies over the batch (variance, a hinge
at standard deviation 1), dimensions do not repeat each other (covariance).

Deviations: text and code differ twice. Equation 5 sums the squared distance over dimensions, the pseudo-code and the
release average it; the release also halves the variance term of algorithm 1. Here: `distance` chooses (mean, with which
the weights 25, 25, 1 were found), and the variance is algorithm 1's; `variance: 12.5` is the release's. Optimiser and
views are `train`'s, both views drawn alike, unless `recipe: paper` asks for the release's. Widths of the paper: 8192 in
all three layers.

Shape legend: B batch, d embedding.

Checked by: tests/stages/pretrain/methods/losses/test_two_view_losses.py; tests/stages/pretrain/methods/test_recipes.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import Projector
from reprise.objectives.decorrelation.variance_covariance import covariance_term, variance_term
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import HiddenWidth, Layers, OutputWidth, RecipeParams
from stages.pretrain.parts import paper_views


class VICRegParams(RecipeParams):
    """Parameters of `vicreg`."""

    PAPER: ClassVar = {  # the release's defaults
        "optimizer": "lars", "optimizer_momentum": 0.9, "nesterov": False, "lars": {"trust": 0.001},
        "learning_rate": 0.2, "learning_rate_scaling": "linear", "warmup_epochs": 10, "warmup_start": 0.0,
        "schedule": {"name": "cosine", "end": 0.001}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1e-6, "decay_vectors": False, "views": paper_views.BYOL,
    }  # fmt: skip
    invariance: Annotated[
        float, Field(ge=0), meaning("The distance between the views has this weight in the loss.")
    ] = 25.0
    variance: Annotated[float, Field(ge=0), meaning("The spread of each dimension has this weight in the loss.")] = 25.0
    covariance: Annotated[
        float, Field(ge=0), meaning("The covariance between dimensions has this weight in the loss.")
    ] = 1.0
    distance: Annotated[
        Literal["mean", "sum"], meaning("The distance between views is a `mean` or a `sum` over the dimensions.")
    ] = "mean"
    hidden: HiddenWidth = 512
    output: OutputWidth = 512
    layers: Layers = 3


@full_precision
def invariance_term(first: Tensor, second: Tensor, distance: str) -> Tensor:
    """Average the squared distance of (B, d) rows over the batch, with its `mean` or `sum` over dimensions."""
    squared = (first - second).square()
    return squared.mean() if distance == "mean" else squared.sum(dim=1).mean()


class VICReg(Method):
    """The weighted sum; variance and covariance of both views are added."""

    Params = VICRegParams
    modalities = (IMAGE, VOLUME)
    capturable = True
    smallest_batch = 2
    params: VICRegParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: VICRegParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed each view alone, as in the paper; the terms are logged as they are, without their weights."""
        features = [self.backbone(view) for view in batch.views]
        first, second = (self.projector(h) for h in features)
        invariance = invariance_term(first, second, self.params.distance)
        variance = variance_term(first) + variance_term(second)
        covariance = covariance_term(first) + covariance_term(second)
        loss = (
            self.params.invariance * invariance + self.params.variance * variance + self.params.covariance * covariance
        )
        terms = {"invariance": invariance, "variance": variance, "covariance": covariance}
        return loss, {"features": features[0], "projections": first, **terms}
