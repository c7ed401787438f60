"""`detcon`: contrastive detection; each object of an image has to be found again in the other view.

Source: Henaff, Koppula, Alayrac, van den Oord, Vinyals, Carreira, "Efficient Visual Pretraining with Contrastive
Detection", ICCV 2021 (DetCon-S). Authors' code: deepmind/detcon.

Idea: a mask says which pixels belong together. It is cut, mirrored and warped with each view, and the local features of
the backbone are averaged over each of its objects. The mean of an object should be closer to the mean of the same
object in the other view than to all other objects, of this image and of all others. The background is an object, too.

Deviations: the loss takes every object that is seen in both views (paper: 16 drawn with repetition); its negatives come
from both views, as SimCLR's do; masks are facts that a source gives (paper: segments found without labels, from which
better masks gain). The mask's shares at the resolution of the features are averages of its pixels. Widths of the paper:
2048-256.

Shape legend: B batch, D features, R numbers of objects, N objects seen in both views, z projection.

Checked by: tests/stages/pretrain/methods/test_masked_regions.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import Projector
from reprise.objectives.nt_xent import nt_xent
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import HiddenWidth, MethodParams, OutputWidth, Temperature
from stages.pretrain.parts.regions import pooled_regions, wide_places

FACT = "mask"


class DetConParams(MethodParams):
    """Parameters of `detcon`."""

    temperature: Temperature = 0.1
    hidden: HiddenWidth = 128
    output: OutputWidth = 64
    smallest: Annotated[
        float, Field(gt=0, lt=1), meaning("An object counts that covers this share of both views at least.")
    ] = 0.01


class DetCon(Method):
    """A backbone with local features, a mean for each object of a mask, a projector, and NT-Xent over objects."""

    Params = DetConParams
    reads: ClassVar[tuple[str, ...]] = (FACT,)
    chunkable: ClassVar[bool] = False
    params: DetConParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: DetConParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.width = int(backbone.num_features)
        self.projector = Projector([self.width, params.hidden, params.output])

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Average over objects, keep those that both views show, and compare their projections."""
        masks = batch.mask(FACT)
        largest = torch.stack([mask.max() for mask in masks]).max().long().view(1)
        numbers = int(batch.world.gather(largest).max()) + 1
        views = [wide_places(self.backbone, view, self.width, "detcon") for view in batch.views]
        pooled = [pooled_regions(x, mask, numbers) for x, mask in zip(views, masks, strict=True)]
        means = [batch.whole(mean) for mean, _ in pooled]
        seen_BR = torch.stack([batch.whole(share) >= self.params.smallest for _, share in pooled]).all(dim=0)
        figures = {"features": batch.whole(views[0].mean(dim=(2, 3)))}
        if not seen_BR.any():  # nothing can be learned; the loss is 0, and so is every gradient
            return 0 * sum(mean.sum() for mean in means), figures
        first_Nz, second_Nz = self.projector(torch.cat([mean[seen_BR] for mean in means])).chunk(2)
        return nt_xent(first_Nz, second_Nz, self.params.temperature), figures
