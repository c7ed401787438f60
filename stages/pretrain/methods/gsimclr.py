"""`gsimclr`: SimCLR whose batches are guided by mined pseudo-labels.

Source: Chakraborty, Gosthipaty, Paul, "G-SimCLR: Self-Supervised Contrastive Learning with Guided Projection via
Pseudo Labelling", ICDM workshops 2020. Authors' code: ariG23498/G-SimCLR.

Idea: NT-Xent pushes apart all images of a batch, also those of one class. Cluster the images first (a denoising
autoencoder, then k-means) and compose batches so that images of one cluster do not meet.

Deviations: the published code sorts images by their rank within the cluster and cuts the list into batches, once;
with unequal clusters most batches then repeat clusters, and the batches never change. `sampling: guided` spreads
every cluster evenly over the batches of each epoch (stages/pretrain/sampler.py), `sampling: rank` is the published
order, and `mask_negatives` leaves images of one cluster out of each other's negatives where they still meet.
"""

from __future__ import annotations

from stages.pretrain.method import Context, Sampling
from stages.pretrain.parts.contrastive import ContrastiveParams, TwoViewContrast


class GSimCLRParams(ContrastiveParams):
    """sampling: `guided`, `rank` (as published) or `random` (masking alone). mask_negatives: see the module."""

    sampling: Sampling = "guided"
    mask_negatives: bool = False


class GSimCLR(TwoViewContrast):
    """NT-Xent on guided batches."""

    Params = GSimCLRParams
    needs_labels = True
    params: GSimCLRParams

    def __init__(self, backbone, params: GSimCLRParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.mask_same_cluster = params.mask_negatives

    @property
    def sampling(self) -> Sampling:
        """From the parameters."""
        return self.params.sampling
