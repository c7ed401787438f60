"""`msn`: masked siamese networks; a transformer that sees few patches matches the prototypes of one that sees all.

Source: Assran, Caron, Misra, Bojanowski, Bordes, Vincent, Joulin, Rabbat, Ballas, "Masked Siamese Networks for
Label-Efficient Learning", ECCV 2022. Authors' code: facebookresearch/msn.

Idea: anchors (one masked large crop and several small ones) predict the soft assignment of an unmasked target view to
learned prototypes. The target is an average of the anchor's network and its assignment is sharpened, then made equal
in number over the batch by Sinkhorn-Knopp; a regulariser keeps the mean assignment of the anchors spread over all
prototypes.

Sinkhorn is an option of the authors that their released configuration has on. Without it equation 1 rewards a
network that gives every image the same answer, a share a on one prototype and the rest spread over the others: once
sharpened it is sure of that prototype, so the loss is (1 - a) (log((1 - a) / a) - log(K - 1)): -3.34 at best at K 256.
Telling the B images of a batch apart, a prototype each, gives -log B: -4.16 at 64. Training found the former.

Deviations: the projector has two layers with ReLU (authors: three with GELU) and sees all anchors together (authors:
one size at a time); a small transformer of its own (`vit_mini`) whatever train.backbone says; masks are drawn for each
image (authors: one for the batch). Optimiser and views are `train`'s unless `recipe: paper` asks for the authors'.
Small crops are not masked, as in the authors' code. Paper: 1024 prototypes of 256, head 2048-2048-256, 10 small crops,
masks of 15 to 70 % by the size of the model, target temperature 0.025 = 0.25 times the anchors' 0.1.

Shape legend: B batch, A anchors an image, K prototypes.

Checked by: tests/stages/pretrain/methods/losses/test_masked_losses.py; tests/stages/pretrain/methods/test_recipes.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import Projector, Prototypes
from reprise.networks.small.small_vit import SmallViT
from reprise.objectives.precision import full_precision
from reprise.objectives.sinkhorn import sinkhorn
from stages.pretrain.method import Batch, Context
from stages.pretrain.params import Depth, Heads, HiddenWidth, OutputWidth, PatchSize, Temperature, Width
from stages.pretrain.parts import paper_views
from stages.pretrain.parts.masking import random_mask, visible
from stages.pretrain.parts.multi_crop import MultiCropParams, ScaleSplit, multi_crop_plan
from stages.pretrain.parts.teacher import Kept, TeacherMethod, TeacherParams
from stages.pretrain.views.settings import ViewSettings


class MSNParams(MultiCropParams, TeacherParams):
    """Parameters of `msn`."""

    PAPER: ClassVar = {  # the release's configuration of ViT-S/16: 0.001 at a batch of 1024, schedules for 1.25 runs
        "optimizer": "adamw", "learning_rate": 2.5e-4, "learning_rate_scaling": "linear",
        "warmup_epochs": 15, "warmup_start": 0.2, "schedule": {"name": "cosine", "end": 0.001},
        "schedule_stretch": 1.25, "clip_norm": 3.0, "weight_decay": 0.04, "weight_decay_end": 0.4,
        "decay_vectors": False, "views": paper_views.with_options(paper_views.MOCO_V2, crop={"scale_min": 0.3}),
        "decay_prototypes": False,
        "momentum": 0.996, "momentum_end": 0.9992, "momentum_schedule": "linear",
        "scale_split": 0.3, "small_scale_min": 0.05,
    }  # fmt: skip
    keep: Kept = "teacher"
    prototypes: Annotated[
        int, Field(ge=2, le=1_000_000), meaning("Images are told apart by this many prototypes (K).", "prototypes")
    ] = 256
    temperature: Temperature = 0.1
    sharpening: Annotated[
        float, Field(gt=0, le=1), meaning("The targets' temperature is this factor of the anchors'.")
    ] = 0.25
    sinkhorn: Annotated[
        int,
        Field(ge=0, le=1000),
        meaning("Sinkhorn balances the targets in this many iterations; 0 for none.", "iterations"),
    ] = 3
    entropy: Annotated[
        float, Field(ge=0), meaning("The regulariser, the entropy of the mean prediction, has this weight in the loss.")
    ] = 1.0
    mask: Annotated[float, Field(gt=0, lt=1), meaning("The large anchor lacks this share of its patches.")] = 0.15
    decay_prototypes: Annotated[bool, meaning("Weight decay reaches the prototypes.")] = True
    scale_split: ScaleSplit = 0.3
    hidden: HiddenWidth = 256
    output: OutputWidth = 64
    patch_size: PatchSize = 4
    width: Width = 96
    depth: Depth = 4
    heads: Heads = 3


@full_precision
def msn_loss(
    anchors: Tensor, targets: Tensor, temperature: float, sharpening: float, entropy: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Equation 1: mean cross entropy of targets and anchors - entropy * H(mean anchor assignment).

    Args:
        anchors: (A, B, K) cosines to the prototypes. targets: (B, K). iterations: of Sinkhorn on the sharpened targets.

    Returns:
        Loss and H, which is at most log K.
    """
    log_p = F.log_softmax(anchors / temperature, dim=2)
    target = sinkhorn(F.log_softmax(targets.detach() / (temperature * sharpening), dim=1), 1.0, iterations)
    mean = log_p.exp().mean(dim=(0, 1))
    spread = torch.special.entr(mean).sum()
    return -(target * log_p).sum(dim=2).mean() - entropy * spread, spread


class MSN(TeacherMethod):
    """View 0 is the target, view 1 the masked anchor, the small crops further anchors."""

    Params = MSNParams
    chunkable = False
    smallest_batch = 2
    params: MSNParams
    backbone: SmallViT
    projector: Projector

    def __init__(self, backbone: nn.Module, params: MSNParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([params.width, params.hidden, params.output])
        self.prototypes = Prototypes(params.output, params.prototypes)
        self.add_teacher("backbone", "projector")

    def parameter_groups(self) -> list[dict]:
        """Give the prototypes a group of their own where decay should not reach them."""
        return [] if self.params.decay_prototypes else [{"params": [self.prototypes.weight], "weight_decay": 0.0}]

    def clipped_parameters(self) -> list[nn.Parameter]:
        """Leave the prototypes out, as the authors do."""
        return [p for p in super().clipped_parameters() if p is not self.prototypes.weight]

    @classmethod
    def own_backbone(cls, params: MSNParams) -> tuple[str, dict]:  # type: ignore[override]
        """Return the small transformer, read at its class token."""
        shape = {"patch_size": params.patch_size, "width": params.width, "depth": params.depth, "heads": params.heads}
        return "vit_mini", {**shape, "pool": "token"}

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """Plan the target, the large anchor and the small anchors."""
        return multi_crop_plan(settings, self.params, self.params.patch_size)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare masked anchors with the target; masks come from the step's seed, prototypes learn from anchors."""
        large = self.backbone.tokens(batch.views[1])
        hidden = batch.own(random_mask(batch.images, large.shape[1], self.params.mask)).to(large.device)
        features = [batch.whole(self.backbone.pooled(self.backbone.encode(visible(large, hidden))))]
        if len(batch.views) > 2:
            features.append(self.backbone(torch.cat(batch.views[2:])))
        projections = self.projector(torch.cat(features))
        anchors = self.prototypes(projections)
        with torch.no_grad():
            targets = self.prototypes(self.taught(batch.views[0]))
        loss, spread = msn_loss(
            anchors.view(len(batch.views) - 1, len(batch.rows), -1),
            targets,
            self.params.temperature,
            self.params.sharpening,
            self.params.entropy,
            self.params.sinkhorn,
        )
        shown = {"features": features[0], "projections": projections[: len(batch.rows)]}
        return loss, shown | {"entropy": spread}
