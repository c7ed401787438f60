"""`simmim`: masked image modelling; hide patches of a transformer's input and regress their pixels.

Source: Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, "SimMIM: A Simple Framework for Masked Image Modeling", CVPR 2022.
Authors' code: microsoft/SimMIM.

Idea: a random share of the patches is replaced by a learned token; one linear layer on each token predicts the patch's
pixels, and the l1 distance counts on hidden patches only. No views to compare, so no augmentation but crop and flip.

Deviations: a small transformer of its own (`vit_mini`) whatever train.backbone says, so it is compared with other
networks than the rest of a table; masks in units of one patch (paper: 32 pixels of 192), and their number is rounded
(the release rounds up: 38 of 64 patches are hidden here, 39 there). The release's cosine begins under the warm-up, here
after it. The features are the mean of the patches: the class token has no loss of its own.

Shape legend: B batch, N patches, P patch side, p = P * P * C pixels, D width.

Checked by: tests/stages/pretrain/methods/losses/test_masked_losses.py; tests/stages/pretrain/methods/test_recipes.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.small.small_vit import SmallViT
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import Depth, Heads, PatchSize, RecipeParams, Width
from stages.pretrain.parts.masking import random_mask
from stages.pretrain.views.settings import ViewSettings


class SimMIMParams(RecipeParams):
    """Parameters of `simmim`."""

    PAPER: ClassVar = {  # the release's configuration of Swin-B for 100 epochs: 8e-4 at a batch of 2048
        "optimizer": "adamw", "learning_rate": 1e-4, "learning_rate_scaling": "linear",
        "warmup_epochs": 10, "warmup_start": 0.005, "schedule": {"name": "cosine", "end": 0.05},
        "schedule_stretch": 1.0, "clip_norm": 5.0, "weight_decay": 0.05, "decay_vectors": False,
        "views": [{"name": "crop", "aspect": 4 / 3}, {"name": "flip", "probability": 0.5}],
        "scale_min": 0.67, "mask": 0.6,
    }  # fmt: skip
    mask: Annotated[float, Field(gt=0, lt=1), meaning("This share of the patches is hidden.")] = 0.6
    scale_min: Annotated[
        float, Field(gt=0, le=1), meaning("The smallest random crop covers this share of the image's area.")
    ] = 0.67
    patch_size: PatchSize = 4
    width: Width = 96
    depth: Depth = 4
    heads: Heads = 3


def patches_of(x: Tensor, side: int) -> Tensor:
    """Cut images into patches in the order of the transformer's tokens: (B, C, S, S) -> (B, N, p)."""
    return F.unfold(x, side, stride=side).transpose(1, 2)


@full_precision
def masked_l1(predicted: Tensor, pixels: Tensor, hidden: Tensor) -> Tensor:
    """Average the absolute difference over the pixels of hidden patches.

    Args:
        predicted, pixels: (B, N, p). hidden: (B, N) bool.

    Returns:
        A scalar; 0 where nothing is hidden.
    """
    weight = hidden.to(predicted.dtype)[..., None]
    return ((predicted - pixels).abs() * weight).sum() / (weight.sum() * pixels.shape[2]).clamp(min=1.0)


class SimMIM(Method):
    """Transformer, mask token, one linear layer back to pixels."""

    Params = SimMIMParams
    chunkable = False
    views = 1
    params: SimMIMParams
    backbone: SmallViT

    def __init__(self, backbone: nn.Module, params: SimMIMParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.mask_token = nn.Parameter(torch.zeros(params.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.decoder = nn.Linear(params.width, context.channels * params.patch_size**2)

    @classmethod
    def own_backbone(cls, params: SimMIMParams) -> tuple[str, dict]:  # type: ignore[override]
        """Return the small transformer, read at the mean of its patches."""
        shape = {"patch_size": params.patch_size, "width": params.width, "depth": params.depth, "heads": params.heads}
        return "vit_mini", {**shape, "pool": "avg"}

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """Plan one large crop without changes of colour."""
        plain = settings.without("colour", "grey", "blur", "solarize")
        return [plain.cropped(self.params.scale_min)]

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Predict the pixels of hidden patches; masks come from the step's seed."""
        view = batch.views[0]
        pixels = patches_of(view, self.params.patch_size)
        hidden = batch.own(random_mask(batch.images, pixels.shape[1], self.params.mask)).to(view.device)
        encoded = self.backbone.encode(self.backbone.tokens(view, hidden, self.mask_token))
        loss = batch.share() * masked_l1(self.decoder(encoded[:, 1:]), pixels, hidden)
        return loss, {"features": batch.whole(self.backbone.pooled(encoded))}
