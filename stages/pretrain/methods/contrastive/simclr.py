"""`simclr`: a simple framework for contrastive learning.

Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020. Authors' code: google-research/simclr (its loss is the sum of two directional means, twice the paper's).

Idea: two random views of an image should be closer to each other than to all other images of the batch. A projector
takes the loss; the backbone before it is what one keeps. Algorithm 1 of the paper, for a batch of B images:

    h = backbone(both views)                 features, which the probes get
    z = projector(h), scaled to length 1     left out after training
    loss = mean over all 2B views i of  -log( exp(z_i . z_p / t) / sum over views k other than i of exp(z_i . z_k / t) )

p is the other view of the same image, t the temperature. Every other image of the batch is a negative: large batches
have more of them, and a small t lets the most similar ones count most.

Deviations: `cifar10` and `digits` suggest no blur, as in the paper's CIFAR-10 experiments (appendix B.9), a folder of
images suggests it at any size; three projector layers as in the authors' second version (two in the first), without the
batch normalisation that the release has on the last one and the paper has not. Optimiser and views are `train`'s unless
`recipe: paper` asks for the paper's: LARS, which pays from batches of thousands on. Widths of the paper: 2048-128.

Shape legend: B batch, d features, z projection.

Checked by: tests/stages/pretrain/test_golden.py; docs/measurements/results.md; docs/explanation/g-simclr.md;
docs/measurements/worth-it.md.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import Projector
from reprise.objectives.nt_xent import nt_xent
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import HiddenWidth, Layers, OutputWidth, RecipeParams, Temperature
from stages.pretrain.parts import paper_views


class SimCLRParams(RecipeParams):
    """Parameters of `simclr`, and its optimiser in the paper."""

    PAPER: ClassVar = {  # appendix B.6; the release's optimiser
        "optimizer": "lars", "optimizer_momentum": 0.9, "nesterov": False, "lars": {"trust": 0.001},
        "learning_rate": 0.3, "learning_rate_scaling": "linear", "warmup_epochs": 10, "warmup_start": 0.0,
        "schedule": {"name": "cosine", "end": 0.0}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1e-6, "decay_vectors": False, "views": paper_views.SIMCLR,
    }  # fmt: skip
    temperature: Temperature = 0.2  # paper: 0.1 on ImageNet, 0.5 on CIFAR-10
    hidden: HiddenWidth = 128
    output: OutputWidth = 64
    layers: Layers = 3


class SimCLR(Method):
    """A backbone and a projector; NT-Xent compares the two views of each image with all others of the batch."""

    Params = SimCLRParams
    modalities = (IMAGE, VOLUME)
    capturable = True
    params: SimCLRParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: SimCLRParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed both views in one pass, so that batch normalisation sees them together, and compare projections."""
        features_2Bd = embed_views(self.backbone, batch.views)
        first_Bz, second_Bz = self.projector(features_2Bd).chunk(2)
        loss = nt_xent(first_Bz, second_Bz, self.params.temperature)
        return loss, {"features": features_2Bd[: len(first_Bz)], "projections": first_Bz}
