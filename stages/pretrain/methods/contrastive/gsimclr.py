"""`gsimclr`: SimCLR whose batches are guided by mined pseudo-labels.

Source: Chakraborty, Gosthipaty, Paul, "G-SimCLR: Self-Supervised Contrastive Learning with Guided Projection via
Pseudo Labelling", ICDM workshops 2020. Authors' code: ariG23498/G-SimCLR.

Idea: NT-Xent pushes apart all images of a batch, also those of one class. Cluster the images first (a denoising
autoencoder, then k-means) and compose batches so that images of one cluster do not meet.

Deviations: the published code sorts images by their rank within the cluster and cuts the list into batches, once;
with unequal clusters most batches then repeat clusters, and the batches never change. `sampling: guided` spreads
every cluster evenly over the batches of each epoch (reprise/reading/order.py), `sampling: rank` is the published
order, and `mask_negatives` leaves images of one cluster out of each other's negatives where they still meet; with
`weigh_by_confidence` only as far as both are sure of their cluster: such a negative counts 1 - c_i c_k times.

Shape legend: B batch, d features, z projection.

Checked by: tests/stages/pretrain/test_golden.py; tests/stages/pretrain/methods/test_confidence.py;
docs/measurements/results.md; docs/explanation/g-simclr.md.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ValidationInfo, field_validator
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import Projector
from reprise.objectives.nt_xent import nt_xent
from reprise.reading.order import OneByOne
from stages.pretrain.method import Batch, Context, Field, Method, embed_views
from stages.pretrain.params import HiddenWidth, Layers, MethodParams, OutputWidth, Temperature


class GSimCLRParams(MethodParams):
    """Parameters of `gsimclr`."""

    temperature: Temperature = 0.2
    hidden: HiddenWidth = 128
    output: OutputWidth = 64
    layers: Layers = 3
    sampling: Annotated[
        OneByOne,
        meaning(
            "Batches keep clusters apart (`guided`), follow the published order (`rank`), or are drawn at `random`."
        ),
    ] = "guided"
    mask_negatives: Annotated[bool, meaning("Images of the same cluster are no negatives of each other.")] = False
    weigh_by_confidence: Annotated[
        bool, meaning("Negatives are left out only as far as both images are sure of their cluster.")
    ] = False

    @field_validator("weigh_by_confidence")
    @classmethod
    def _only_what_is_masked(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("mask_negatives"):
            raise ValueError("weighs the negatives that mask_negatives leaves out: set mask_negatives: true as well")
        return value


class GSimCLR(Method):
    """A backbone and a projector; NT-Xent on batches in which images of one cluster rarely meet."""

    Params = GSimCLRParams
    modalities = (IMAGE, VOLUME)
    capturable = True
    needs: tuple[Field, ...] = ("clusters",)
    params: GSimCLRParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: GSimCLRParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])
        if params.weigh_by_confidence:
            self.needs = ("clusters", "confidences")

    @property
    def sampling(self) -> OneByOne:
        """Return the order of the images that the parameters name."""
        return self.params.sampling

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare projections as `simclr` does; images of one cluster may be left out of the negatives."""
        features_2Bd = embed_views(self.backbone, batch.views)
        first_Bz, second_Bz = self.projector(features_2Bd).chunk(2)
        clusters = batch.clusters if self.params.mask_negatives else None
        confidences = batch.confidences if self.params.weigh_by_confidence else None
        loss = nt_xent(first_Bz, second_Bz, self.params.temperature, clusters, confidences)
        return loss, {"features": features_2Bd[: len(first_Bz)], "projections": first_Bz}
