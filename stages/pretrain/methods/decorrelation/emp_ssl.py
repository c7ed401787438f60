"""`emp_ssl`: extreme multi-patch learning; spread out by coding rate, agree with the mean of many patches.

Source: Tong, Chen, Ma, LeCun, "EMP-SSL: Towards Self-Supervised Learning in One Training Epoch", arXiv 2304.03977; the
total coding rate is MCR2's (Yu et al., NeurIPS 2020). Authors' code: tsb0601/EMP-SSL.

Idea: each image gives many patches of a fixed size. The coding rate of each patch position over the batch is maximised,
so that representations take up volume; each patch's representation is drawn to the mean over the image's patches.

Deviations: patches are `views` of the run's own augmentation within a fixed range of areas (0.25 as in the authors'
code; the aspect varies as in all views, unless `recipe: paper` asks for squares). The sign matters: one public
implementation adds the coding rate to what is minimised, which rewards collapse. Paper: 20 to 200 patches, weight 200,
projector 4096-512 on top of a 4096 wide layer.

Shape legend: V patches an image, B batch, d projection.

Checked by: tests/stages/pretrain/methods/losses/test_multi_view_losses.py;
tests/stages/pretrain/methods/test_recipes.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import Projector
from reprise.objectives.coding_rate import coding_rate
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import HiddenWidth, Layers, OutputWidth, RecipeParams
from stages.pretrain.parts import paper_views
from stages.pretrain.views.settings import ViewSettings


class EMPSSLParams(RecipeParams):
    """Parameters of `emp_ssl`."""

    PAPER: ClassVar = {  # the release: LARC around SGD, and a rate that does not follow the batch (100 there)
        "optimizer": "lars", "optimizer_momentum": 0.9, "nesterov": True,
        "lars": {"trust": 0.005, "clip": True, "separate_norms": True},
        "learning_rate": 0.3, "learning_rate_scaling": "none", "warmup_epochs": 0, "warmup_start": 0.0,
        "schedule": {"name": "cosine", "end": 0.0}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1e-4, "decay_vectors": False,
        "views": paper_views.with_options(
            paper_views.MOCO_V2,
            crop={"aspect": 1.0}, colour={"hue": 0.2}, blur={"probability": 0.1}, solarize={"probability": 0.1},
        ),
        "scale_min": 0.25, "scale_max": 0.25,
    }  # fmt: skip
    patches: Annotated[int, Field(ge=2, le=256), meaning("Each image gives this many patches (V).", "patches")] = 20
    scale_min: Annotated[
        float, Field(gt=0, le=1), meaning("The smallest patches cover this share of the image's area.")
    ] = 0.25
    scale_max: Annotated[
        float, Field(gt=0, le=1), meaning("The largest patches cover this share of the image's area.")
    ] = 0.25
    invariance: Annotated[float, Field(ge=0), meaning("The agreement of the patches has this weight in the loss.")] = (
        200.0
    )
    precision: Annotated[
        float, Field(gt=0), meaning("The coding rate is taken at this squared precision (epsilon squared).")
    ] = 0.2
    hidden: HiddenWidth = 256
    output: OutputWidth = 128
    layers: Layers = 2


@full_precision
def emp_ssl_loss(z: Tensor, invariance: float, precision: float) -> tuple[Tensor, Tensor, Tensor]:
    """Equation 4: -mean over V of R(Z_v) + invariance * (1 - mean cosine of patch and mean patch).

    Args:
        z: (V, B, d) projections; they are l2-normalised here.

    Returns:
        Loss, coding rate (to be large) and mean cosine. Equal images: the smallest rate, 1/2 log(1 + d / precision).
    """
    z = F.normalize(z, dim=2)
    rate = torch.stack([coding_rate(z_v, precision) for z_v in z]).mean()
    agreement = F.cosine_similarity(z, z.mean(dim=0, keepdim=True), dim=2).mean()
    return -rate + invariance * (1.0 - agreement), rate, agreement


class EMPSSL(Method):
    """Backbone, projector, V patches."""

    Params = EMPSSLParams
    smallest_batch = 2
    params: EMPSSLParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: EMPSSLParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """Plan V views of a fixed range of areas."""
        low, high = sorted((self.params.scale_min, self.params.scale_max))
        return [settings.cropped(low, high)] * self.params.patches

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed all patches in one pass."""
        features = embed_views(self.backbone, batch.views)
        z = self.projector(features).view(len(batch.views), len(batch.rows), -1)
        loss, rate, agreement = emp_ssl_loss(z, self.params.invariance, self.params.precision)
        shown = {"features": features[: len(batch.rows)], "projections": z[0]}
        return loss, shown | {"coding_rate": rate, "agreement": agreement}
