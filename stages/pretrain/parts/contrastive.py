"""What SimCLR and its guided form share: a projector on the backbone and NT-Xent on two views."""

from __future__ import annotations

from torch import Tensor, nn

from reprise.networks.heads import Projector
from reprise.objectives.nt_xent import nt_xent
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import HiddenWidth, Layers, MethodParams, OutputWidth, Temperature


class ContrastiveParams(MethodParams):
    """Parameters of SimCLR and G-SimCLR. The paper's temperature is 0.1 on ImageNet and 0.5 on CIFAR-10."""

    temperature: Temperature = 0.2
    hidden: HiddenWidth = 128
    output: OutputWidth = 64
    layers: Layers = 3


class TwoViewContrast(Method):
    """Backbone, projector, NT-Xent over the two views of each image."""

    Params = ContrastiveParams
    params: ContrastiveParams
    projector: Projector
    mask_same_cluster: bool = False

    def __init__(self, backbone: nn.Module, params: ContrastiveParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        widths = [backbone.num_features, *[params.hidden] * (params.layers - 1), params.output]
        self.projector = Projector(widths)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """NT-Xent of the projections; the features of the first view go to the collapse figures."""
        features_2Bd = embed_views(self.backbone, batch.views)
        first, second = self.projector(features_2Bd).chunk(2)
        clusters = batch.clusters if self.mask_same_cluster else None
        confidences = batch.confidences if self.mask_same_cluster else None
        loss = nt_xent(first, second, self.params.temperature, clusters, confidences)
        return loss, {"features": features_2Bd[: len(first)]}
