"""`proto_contrast`: contrast with prototypes of known and of new classes, some labels being given. **It reads labels.**

Source: GPC, "Learning Semi-supervised Gaussian Mixture Models for Generalized Category Discovery", ICCV 2023, its
representation learning. Authors' code: DTennant/GPC.

Idea: the miner `semi_supervised_mixture` clusters images of which some show their label. This method learns from what
it found: (1 - w) InfoNCE(all) + w SupCon(images with given labels) + v CE(prototypes). A prototype is the mean of its
cluster's features, of length one, and an image should be nearest to its own: logits are f . p_k / t_k, of both views.
Clusters that are spread get a softer temperature: t_k is the density of cluster k, the mean distance of its members to
their mean over log(members + 10), brought between the 10th and 90th percentile of all, and scaled to the mean
`prototype_temperature`. Embedding the run and mining it again gives the next round.

Which labels: of an image with a given label the method sees the cluster, which holds all given ones of its class and
none of another. No other true label reaches it. The label set says so (`uses_truth`), and the report marks the run.

Deviations: clusters are mined between runs, in rounds, and not in every epoch. Members' features are those of the last
epoch's views, of both views together (release: of whole images, in evaluation mode). Batches are drawn from all images
alike (release: as many labelled as unlabelled ones). The projector has batch normalisation in place of DINO's head; the
release trains the last block of a published transformer, which is `freeze` and `from` here. Temperatures of the release
are 1.0, and 0.07 for SupCon; whether those of the paper are the same could not be checked. Not repeated from the
release: its optional momentum of prototypes uses the switch as the coefficient; there is none here.

Shape legend: B batch, n images, d features, K clusters.

Checked by: tests/stages/pretrain/methods/test_proto_contrast.py; docs/measurements/learned-clusters.md.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import Assigner, Classifier, Projector
from reprise.objectives.nt_xent import nt_xent
from reprise.objectives.precision import full_precision
from reprise.objectives.supcon import supcon_loss
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import HiddenWidth, Layers, MethodParams, OutputWidth, Temperature
from stages.pretrain.parts.memory import Memory

CLAMP = (0.1, 0.9)  # quantiles of the densities that bound them
SMALL = 10  # members that are added to those of a cluster, so that small ones do not look dense


class ProtoContrastParams(MethodParams):
    """Parameters of `proto_contrast`."""

    temperature: Temperature = 0.2
    label_temperature: Annotated[
        float, Field(gt=0, le=10), meaning("Similarities of images with given labels are divided by this temperature.")
    ] = 0.07
    prototype_temperature: Annotated[
        float, Field(gt=0, le=10), meaning("The temperatures of the prototypes have this mean.")
    ] = 0.2
    label_weight: Annotated[
        float, Field(ge=0, le=1), meaning("The loss of given labels has this share, the contrast of views the rest.")
    ] = 0.35
    prototype_weight: Annotated[
        float, Field(ge=0, le=100), meaning("The loss of the prototypes is multiplied by this.")
    ] = 1.0
    prototypes_from: Annotated[
        float,
        Field(ge=0, le=1),
        meaning("Prototypes are used after this share of the training, and not in the first epoch (release: 1 of 60)."),
    ] = 0.02
    hidden: HiddenWidth = 128
    output: OutputWidth = 64
    layers: Layers = 2


@full_precision
def prototype_loss(features: Tensor, prototypes: Tensor, temperatures: Tensor, clusters: Tensor) -> Tensor:
    """Average the cross entropy of features over prototypes; images of no cluster are left out.

    Args:
        features: (B, d), of any length. prototypes: (K, d), of length one. temperatures: (K,).
        clusters: (B,) int64, -1 for none.

    Returns:
        A scalar, 0 where no image has a cluster.
    """
    logits = F.normalize(features, dim=1) @ prototypes.T / temperatures
    total = F.cross_entropy(logits, clusters, ignore_index=-1, reduction="sum")
    return total / (clusters >= 0).sum().clamp_min(1)


@torch.no_grad()
def prototypes_of(features: Tensor, clusters: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compute prototypes and densities of clusters from the features of their members.

    Args:
        features: (n, d), of length one. clusters: (n,) int64, -1 for none. count: K.

    Returns:
        (K, d) means of length one, (K,) mean distances to the mean over log(members + 10), and (K,) members. A cluster
        of one image has the density of the loosest one, as in the release; one of none has a zero prototype.
    """
    member = clusters >= 0
    x, y = features[member], clusters[member]
    members = torch.bincount(y, minlength=count)
    means = torch.zeros(count, x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, y, x)
    means = means / members.clamp_min(1)[:, None]
    apart = torch.zeros(count, dtype=x.dtype, device=x.device).index_add_(0, y, (x - means[y]).norm(dim=1))
    density = apart / members.clamp_min(1) / torch.log(members.to(x.dtype) + SMALL)
    density = torch.where(members > 1, density, density.max())
    return F.normalize(means, dim=1), density, members


@torch.no_grad()
def temperatures_of(density: Tensor, mean: float) -> Tensor:
    """Bring densities between their 10th and 90th percentile, and scale them: (K,) with this mean."""
    low, high = torch.quantile(density, torch.tensor(CLAMP, dtype=density.dtype, device=density.device))
    kept = density.clamp(low, high)
    average = kept.mean()
    return torch.where(average > 0, mean * kept / average.clamp_min(1e-12), torch.full_like(kept, mean))


class ProtoContrast(Method):
    """Projector for the contrast, prototypes on the backbone's own features, a memory of these."""

    Params = ProtoContrastParams
    modalities = (IMAGE, VOLUME)
    needs = ("clusters", "given")
    taps = ("assigner",)
    smallest_batch = 2
    params: ProtoContrastParams
    projector: Projector
    prototypes: Tensor
    temperatures: Tensor
    clusters: Tensor
    renewals: Tensor
    progress: Tensor

    def __init__(self, backbone: nn.Module, params: ProtoContrastParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        width, count = int(backbone.num_features), max(1, context.clusters)
        self.projector = Projector([width, *[params.hidden] * (params.layers - 1), params.output])
        self.memory = Memory(context.images, width)
        self.register_buffer("clusters", torch.full((context.images,), -1, dtype=torch.int64))
        self.register_buffer("prototypes", torch.zeros(count, width))
        self.register_buffer("temperatures", torch.full((count,), params.prototype_temperature))
        self.register_buffer("renewals", torch.zeros((), dtype=torch.int64))
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed both views in one pass; their features are remembered for the next prototypes."""
        params = self.params
        features = embed_views(self.backbone, batch.views)
        first, second = self.projector(features).chunk(2)
        loss = (1.0 - params.label_weight) * nt_xent(first, second, params.temperature)
        if bool(batch.given.any()):
            given = batch.given
            known = supcon_loss(first[given], second[given], batch.clusters[given], params.label_temperature)
            loss = loss + params.label_weight * known
        if int(self.renewals) and float(self.progress) >= params.prototypes_from:
            near = prototype_loss(features, self.prototypes, self.temperatures, batch.clusters.repeat(2))
            loss = loss + params.prototype_weight * near
        unit = F.normalize(features.detach().float(), dim=1)
        self.memory.write(batch.rows, sum(unit.chunk(2)))
        self.clusters[batch.rows] = batch.clusters
        return loss, {"features": features[: batch.images], "projections": first}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Renew prototypes and temperatures whenever all images were seen once more."""
        self.progress.fill_(progress)
        if int(self.memory.written) >= (int(self.renewals) + 1) * self.context.images:
            prototypes, density, _ = prototypes_of(self.memory.vectors, self.clusters, len(self.prototypes))
            self.prototypes.copy_(prototypes)
            self.temperatures.copy_(temperatures_of(density, self.params.prototype_temperature))
            self.renewals += 1

    def heads(self) -> dict[str, Projector | Classifier | Assigner]:
        """Return the projector, and the prototypes as an assigner of clusters."""
        assigner = Assigner([self.prototypes.shape[1], len(self.prototypes)], scale=1.0).to(self.prototypes.device)
        with torch.no_grad():
            assigner.output.weight.copy_(self.prototypes / self.temperatures[:, None])
            assigner.output.bias.zero_()
        return {"projector": self.projector, "assigner": assigner}
