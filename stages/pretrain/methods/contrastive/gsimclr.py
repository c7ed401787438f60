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
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ValidationInfo, field_validator

from reprise.config.params import meaning
from stages.pretrain.method import Context, Sampling
from stages.pretrain.parts.contrastive import ContrastiveParams, TwoViewContrast


class GSimCLRParams(ContrastiveParams):
    """Parameters of `gsimclr`."""

    sampling: Annotated[
        Sampling,
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
    def _of_what_is_masked(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("mask_negatives"):
            raise ValueError("weighs the negatives that mask_negatives leaves out: set mask_negatives: true as well")
        return value


class GSimCLR(TwoViewContrast):
    """NT-Xent on guided batches."""

    Params = GSimCLRParams
    needs_labels = True
    params: GSimCLRParams

    def __init__(self, backbone, params: GSimCLRParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.mask_same_cluster, self.weighs_confidence = params.mask_negatives, params.weigh_by_confidence

    @property
    def sampling(self) -> Sampling:
        """From the parameters."""
        return self.params.sampling
