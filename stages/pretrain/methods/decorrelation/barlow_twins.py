"""`barlow_twins`: the cross-correlation of two views should be the identity matrix.

Source: Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021.
Authors' code: facebookresearch/barlowtwins.

Idea: each dimension agrees between the views (diagonal 1) and says something of its own (0 elsewhere). No negatives,
no asymmetry.

Deviations: outputs are standardised over the batch with the biased deviation, as the authors' batch normalisation does
(other implementations take the unbiased one, which leaves the diagonal below 1), and with its 1e-5 under the root,
which equation 2 does not have. Optimiser and views are `train`'s, both views drawn alike, unless `recipe: paper` asks
for the paper's: LARS, biases and normalisation at 0.0048 where matrices learn at 0.2, one view always blurred, the
other solarised at times. The release decays by 1e-6, the paper by 1.5e-6. Widths of the paper: 8192 in all three
layers.

Shape legend: B batch, d projection.

Checked by: tests/stages/pretrain/methods/losses/test_two_view_losses.py; tests/stages/pretrain/methods/test_recipes.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import Projector
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import HiddenWidth, Layers, OutputWidth, RecipeParams
from stages.pretrain.parts import paper_views

EPSILON = 1e-5  # under the root, as in batch normalisation


class BarlowTwinsParams(RecipeParams):
    """Parameters of `barlow_twins`."""

    PAPER: ClassVar = {  # section 2.2, and the release for the end of the rate
        "optimizer": "lars", "optimizer_momentum": 0.9, "nesterov": False, "lars": {"trust": 0.001},
        "learning_rate": 0.2, "learning_rate_scaling": "linear", "warmup_epochs": 10, "warmup_start": 0.0,
        "schedule": {"name": "cosine", "end": 0.001}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1.5e-6, "decay_vectors": False, "views": paper_views.BYOL, "bias_rate_factor": 0.0048 / 0.2,
    }  # fmt: skip
    redundancy: Annotated[
        float, Field(ge=0), meaning("The off-diagonal terms of the loss have this weight (lambda).")
    ] = 0.0051
    hidden: HiddenWidth = 512
    output: OutputWidth = 512
    layers: Layers = 3
    bias_rate_factor: Annotated[
        float,
        Field(gt=0, le=1),
        meaning(
            "Biases and normalisation learn at this share of the learning rate; the paper's is 0.0048 / 0.2, for LARS."
        ),
    ] = 1.0


@full_precision
def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Equation 2: (d, d) correlations over the batch between the dimensions of two (B, d) views."""
    a, b = ((z - z.mean(0)) / (z.var(0, correction=0) + EPSILON).sqrt() for z in (first, second))
    return a.T @ b / len(first)


@full_precision
def barlow_loss(first: Tensor, second: Tensor, redundancy: float) -> Tensor:
    """Equation 1: sum of (1 - C_ii)^2 + redundancy * sum of C_ij^2, i != j; d for equal images or a batch of one."""
    correlation = cross_correlation(first, second)
    diagonal = correlation.diagonal()
    off_diagonal = correlation.square().sum() - diagonal.square().sum()
    return (1.0 - diagonal).square().sum() + redundancy * off_diagonal


class BarlowTwins(Method):
    """The two views' projections through `barlow_loss`."""

    Params = BarlowTwinsParams
    modalities = (IMAGE, VOLUME)
    capturable = True
    smallest_batch = 2
    params: BarlowTwinsParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: BarlowTwinsParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])

    def parameter_groups(self) -> list[dict]:
        """Give vectors a group of their own where they have their own learning rate."""
        if self.params.bias_rate_factor == 1.0:
            return []
        vectors = [p for p in self.parameters() if p.requires_grad and p.ndim <= 1]
        return [{"params": vectors, "rate_factor": self.params.bias_rate_factor}]

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed each view alone, so that it has its own batch statistics in the network as in the loss."""
        features = [self.backbone(view) for view in batch.views]
        first, second = (self.projector(h) for h in features)
        loss = barlow_loss(first, second, self.params.redundancy)
        return loss, {"features": features[0], "projections": first}
