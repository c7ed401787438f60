"""`nmce`: neural manifold clustering and embedding; clusters span few directions each, and different ones.

Source: Li, Chen, LeCun, Sommer, "Neural Manifold Clustering and Embedding", arXiv 2201.10000, with the coding rates of
MCR2 (Yu et al., NeurIPS 2020). Authors' code: zengyi-li/NMCE-release.

Idea: an image and its views lie on one manifold, and manifolds become linear subspaces. R(Z) is the coding rate of all
features and R_c(Z, Pi) that within clusters; the difference is to be large. Memberships are drawn by Gumbel-softmax.
Three phases follow each other in one run, each a share of it:

    1. features alone: -mean over the views of R(Z_v) - invariance * mean cosine of the two views
    2. clusters on features that stand still: -R(Z) + R_c(Z, Pi) - invariance * mean cosine; the backbone is frozen
    3. the same, and everything learns

In phases 2 and 3, Z and Pi of an image are the means over its two views, with Z brought to length one again.

Deviations: the authors run three programs one after the other, with learning rates of their own (LARS 0.3, then 0.5
for the clusters, 0.003 for all); here one schedule goes through, and `cluster_rate` multiplies the rate of the
clusters. They begin phase 2 with a new last layer for Z, and the layer below it, which Z and Pi share, never learns
again, because no optimiser has it; here the head of Z goes on, clusters have a hidden layer of their own, and both
learn. While the backbone is frozen it normalises by the batch, as theirs does. Their accuracy pairs clusters and
classes greedily, which can be far below the best pairing; Reprise's is the best. Paper: ResNet-18, 600 + 100 + 100
epochs at batches of 1,024, width 128, precision 0.2 and invariance 30 in phase 1; the release has 0.5 and 100 later.

Shape legend: B batch, d projection, K clusters.

Checked by: tests/stages/pretrain/methods/test_learned_clusters.py; docs/measurements/learned-clusters.md.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import ASSIGNER, Assigner, Classifier, Projector
from reprise.objectives.coding_rate import coding_rate, rate_in_clusters
from reprise.objectives.memberships import evenness, gumbel_softmax
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import HiddenWidth, Layers, MethodParams, OutputWidth


class NMCEParams(MethodParams):
    """Parameters of `nmce`."""

    clusters: Annotated[
        int,
        Field(ge=2, le=10_000),
        meaning("The images fall into this many clusters (K), at most half as many as images.", "clusters"),
    ] = 10
    features_for: Annotated[
        float, Field(ge=0, le=1), meaning("The first phase, features without clusters, is this share of the training.")
    ] = 0.5
    frozen_for: Annotated[
        float,
        Field(ge=0, le=1),
        meaning(
            "The second phase, clusters on a frozen backbone, is this share of the training; the third is the rest."
        ),
    ] = 0.25
    invariance: Annotated[
        float, Field(ge=0), meaning("The agreement of the two views of an image has this weight in the loss.")
    ] = 30.0
    precision: Annotated[
        float, Field(gt=0), meaning("Coding rates are taken at this squared precision (epsilon squared).")
    ] = 0.2
    gumbel_temperature: Annotated[
        float, Field(gt=0, le=10), meaning("Draws of clusters are relaxed at this temperature; 0 would be one cluster.")
    ] = 1.0
    cluster_rate: Annotated[
        float, Field(gt=0, le=1000), meaning("The learning rate of the clusters is this many times that of the rest.")
    ] = 1.0
    cluster_decay: Annotated[float, Field(ge=0, le=1), meaning("The weight decay of the clusters is this.")] = 0.005
    hidden: HiddenWidth = 256
    output: OutputWidth = 64
    layers: Layers = 2


@full_precision
def agreement(z: Tensor) -> Tensor:
    """Compute the mean cosine of the two views of an image: (2, B, d) -> a scalar."""
    return F.cosine_similarity(z[0], z[1], dim=1).mean()


@full_precision
def features_loss(z: Tensor, invariance: float, precision: float) -> Tensor:
    """Phase 1, of (2, B, d): spread each view out, and hold the two views of an image together."""
    z = F.normalize(z, dim=2)
    rates = torch.stack([coding_rate(view, precision) for view in z])
    return -rates.mean() - invariance * agreement(z)


@full_precision
def clusters_loss(z: Tensor, memberships: Tensor, invariance: float, precision: float) -> Tensor:
    """Phases 2 and 3, of (2, B, d) features and (2, B, K) memberships: enlarge R - R_c, hold the views together."""
    z = F.normalize(z, dim=2)
    mean = F.normalize(z.mean(dim=0), dim=1)
    reduction = coding_rate(mean, precision) - rate_in_clusters(mean, memberships.mean(dim=0), precision)
    return -reduction - invariance * agreement(z)


class NMCE(Method):
    """Projector and assigner; the phase follows from how far the training has come."""

    Params = NMCEParams
    modalities = (IMAGE, VOLUME)
    smallest_batch = 2
    taps = (ASSIGNER,)
    params: NMCEParams
    projector: Projector
    progress: Tensor

    def __init__(self, backbone: nn.Module, params: NMCEParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        most, why = max(2, context.images // 2), "that is half of the training images"
        clusters = self.limited("clusters", params.clusters, most, why)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])
        self.assigner = Assigner([backbone.num_features, params.hidden, clusters])
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Let the clusters decay, and learn, at their own rate."""
        rate, decay = self.params.cluster_rate, self.params.cluster_decay
        return [{"params": list(self.assigner.parameters()), "weight_decay": decay, "rate_factor": rate}]

    @property
    def phase(self) -> int:
        """Return 1, 2 or 3."""
        done, first = float(self.progress), self.params.features_for
        return 1 if done < first else 2 if done < first + self.params.frozen_for else 3

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Take a step of the present phase."""
        params, phase = self.params, self.phase
        with torch.set_grad_enabled(torch.is_grad_enabled() and phase != 2):
            features = self.backbone(torch.cat(batch.views))
        z = torch.stack(self.projector(features).float().chunk(2))
        logits = self.assigner(features.detach() if phase == 1 else features).float()
        if phase == 1:
            loss = features_loss(z, params.invariance, params.precision)
        else:
            drawn = gumbel_softmax(logits, params.gumbel_temperature, torch.rand_like(logits))
            loss = clusters_loss(z, torch.stack(drawn.chunk(2)), params.invariance, params.precision)
        figures = {"agreement": agreement(z), "evenness": evenness(torch.softmax(logits, dim=1))}
        return loss, {"features": features[: batch.images], "projections": z[0], **figures}

    def after_backward(self, progress: float) -> None:
        """Leave what the present phase does not teach where it is: momentum and weight decay would move it."""
        still = {1: [self.assigner], 2: [self.backbone], 3: []}[self.phase]
        for parameter in (parameter for part in still for parameter in part.parameters()):
            parameter.grad = None

    def after_step(self, progress: float) -> None:
        """Remember how far training has come."""
        self.progress.fill_(progress)

    def heads(self) -> dict[str, Projector | Classifier | Assigner]:
        """Return projector and assigner."""
        return {**super().heads(), ASSIGNER: self.assigner}
