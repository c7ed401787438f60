"""`supcon`: supervised contrast; all views of images with one label attract each other.

Source: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020. Authors' code: google-research, supcon.

Idea: SimCLR with several positives an anchor. Equation 2 (`out`: the mean over the positives stands outside the
logarithm) is the one that the paper recommends; equation 3 (`in`) is there to compare.

Deviations: images without a label are positives of their own other view only, which makes the loss NT-Xent on an
unlabelled batch. The release multiplies by temperature / base temperature (1 at 0.07, later 0.1), here 1: as in the
equations. `recipe: paper` is that of an author's PyTorch code (HobbitLong/SupContrast), where a warm-up ends on the
cosine and not at the peak. Widths of the paper: 2048-128, two layers.

Shape legend: B batch, d projection.

Checked by: tests/stages/pretrain/methods/losses/test_contrastive_losses.py;
tests/stages/pretrain/methods/test_recipes.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import Projector
from reprise.objectives.supcon import supcon_loss
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import HiddenWidth, Layers, OutputWidth, RecipeParams, Temperature
from stages.pretrain.parts import paper_views


class SupConParams(RecipeParams):
    """Parameters of `supcon`."""

    PAPER: ClassVar = {  # an author's code, HobbitLong/SupContrast, with its cosine schedule
        "optimizer": "sgd", "optimizer_momentum": 0.9, "nesterov": False,
        "learning_rate": 0.05, "learning_rate_scaling": "linear", "warmup_epochs": 10, "warmup_start": 0.2,
        "schedule": {"name": "cosine", "end": 0.001}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1e-4, "decay_vectors": True,
        "views": paper_views.with_options(paper_views.MOCO_V2, blur={"probability": 0.0}),
    }  # fmt: skip
    temperature: Temperature = 0.1
    mean: Annotated[
        Literal["out", "in"], meaning("The positives' mean is taken outside (`out`) or inside (`in`) the logarithm.")
    ] = "out"
    hidden: HiddenWidth = 128
    output: OutputWidth = 64
    layers: Layers = 2


class SupCon(Method):
    """Backbone, projector, `supcon_loss` with the run's label set."""

    Params = SupConParams
    modalities = (IMAGE, VOLUME)
    capturable = True
    needs = ("clusters",)
    smallest_batch = 2
    params: SupConParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: SupConParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed both views in one pass."""
        features_2Bd = embed_views(self.backbone, batch.views)
        first, second = self.projector(features_2Bd).chunk(2)
        loss = supcon_loss(first, second, batch.clusters, self.params.temperature, self.params.mean)
        return loss, {"features": features_2Bd[: len(first)], "projections": first}
