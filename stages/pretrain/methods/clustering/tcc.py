"""`tcc`: twin-contrast clustering; images are contrasted with images, and clusters with clusters.

Source: Shen, Shen, Wang, Qin, Torr, Shao, "You Never Cluster Alone", NeurIPS 2021 (arXiv 2106.01908). No published
code of the method is known; an early model by the first author, in TensorFlow, was read.

Idea: memberships pi(k | x) link two tracks. The instance track is MoCo's, with the cluster of an image as a hidden
variable: log p(v' | x) is at least the mean over k ~ pi of log p(v' | x, k), minus the divergence of pi(. | x) from a
prior, which is the teacher's memberships of the other view. Queries know the drawn cluster, e(x, k) = unit(P f(x) +
E_k), and draws are relaxed (Gumbel-softmax), so that gradients reach pi. The cluster track sums the members of each
cluster up, r_k = unit(sum of pi(k | x_i) v_i), and contrasts it with the same sum over the other views: other
clusters, and those of earlier batches, are its negatives.

    loss = -bound + alpha * mean over k of -log softmax of r_k . r'_k / temperature - balance * entropy of the mean pi

Deviations: the formulas rest on descriptions of the paper, whose text could not be read. Not verified are alpha = 1,
one draw for an image, the form of e(x, k) and the queue of clusters. That its vectors of the same cluster are no
negatives is taken from the early model, whose further negatives (the other r_k of the same view) and noise on the
queue are left out. The entropy is not the paper's: without it, in the short trainings here, images gather in a few
clusters; `balance: 0` leaves it out. pi is a head of its own, cosines to K directions, where the paper has mu_k .
f(x). A cluster that has no members in a view takes no part, instead of standing there as a vector of zeros. The first
view gives queries and the second keys, as in MoCo. Paper: ResNet-34, 12,800 keys, as many clusters as classes.

Shape legend: B batch, K clusters, d projection, Q keys of earlier batches, R cluster vectors of earlier batches.

Checked by: tests/stages/pretrain/methods/test_learned_clusters.py; docs/measurements/learned-clusters.md.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import ASSIGNER, Assigner, Classifier, Projector
from reprise.objectives.memberships import divergence, evenness, gumbel_softmax
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context
from stages.pretrain.params import HiddenWidth, Layers, OutputWidth, Temperature
from stages.pretrain.parts.queue import Queue, queue_length
from stages.pretrain.parts.teacher import LastMomentum, Momentum, TeacherMethod, TeacherParams

EMPTY = 1e-6  # of the members of a cluster in a batch, all together


class TCCParams(TeacherParams):
    """Parameters of `tcc`."""

    clusters: Annotated[
        int,
        Field(ge=2, le=1_000_000),
        meaning("The images fall into this many clusters (K), at most half as many as images.", "clusters"),
    ] = 10
    temperature: Temperature = 0.2
    assignment_temperature: Annotated[
        float,
        Field(gt=0, le=10),
        meaning("Cosines of images and directions of clusters are divided by this temperature at the first step."),
    ] = 0.1
    gumbel_temperature: Annotated[
        float, Field(gt=0, le=10), meaning("Draws of clusters are relaxed at this temperature; 0 would be one cluster.")
    ] = 1.0
    alpha: Annotated[
        float, Field(ge=0), meaning("The contrast of clusters has this weight in the loss; 0 turns it off.")
    ] = 1.0
    balance: Annotated[
        float,
        Field(ge=0),
        meaning("The entropy of the mean membership, as a share of log K, has this weight; 0 as in the paper."),
    ] = 1.0
    queue: Annotated[
        int, Field(ge=1, le=10_000_000), meaning("This many keys of earlier batches serve as negatives.", "keys")
    ] = 12800
    cluster_queue: Annotated[
        int,
        Field(ge=0, le=100_000),
        meaning("The cluster vectors of this many earlier batches serve as negatives of the clusters.", "batches"),
    ] = 10
    momentum: Momentum = 0.99
    momentum_end: LastMomentum = 0.99
    hidden: HiddenWidth = 256
    output: OutputWidth = 128
    layers: Layers = 2


@full_precision
def log_likelihood(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Compute log p(v' | x, k), the log softmax of each query at its own key: (B, d), (B, d), (Q, d) -> (B,)."""
    queries, keys, negatives = (F.normalize(v, dim=1) for v in (queries, keys, negatives))
    logits = torch.cat([(queries * keys).sum(dim=1, keepdim=True), queries @ negatives.T], dim=1) / temperature
    return torch.log_softmax(logits, dim=1)[:, 0]


@full_precision
def bound(log_likelihoods: Tensor, logits: Tensor, prior: Tensor) -> Tensor:
    """Bound log p(v' | x) from below: (B,) log p(v' | x, k) of draws k ~ pi, (B, K) logits of pi and prior -> (B,).

    Its mean over k ~ pi is at most log of sum over k of prior(k) p(v' | x, k), by Jensen's inequality.
    """
    return log_likelihoods - divergence(logits, prior)


@full_precision
def cluster_vectors(memberships: Tensor, z: Tensor) -> Tensor:
    """Sum the members of each cluster up: (B, K), (B, d) -> (K, d) of length one; zeros where there are none."""
    sums = memberships.T @ F.normalize(z, dim=1)
    there = memberships.sum(dim=0) > EMPTY
    return torch.where(there[:, None], F.normalize(sums, dim=1), 0.0)


@full_precision
def cluster_contrast(first: Tensor, second: Tensor, earlier: Tensor, temperature: float) -> Tensor:
    """Find each cluster of one view among those of the other view, and among earlier ones of other clusters.

    Args:
        first, second: (K, d), as `cluster_vectors` makes them.
        earlier: (R, d) of earlier batches, whole ones: row j is of cluster j modulo K.
        temperature: above 0.

    Returns:
        Mean over the clusters that have members in both views; 0 where none has.
    """
    K = len(first)
    there = [(vectors != 0).any(dim=1) for vectors in (first, second, earlier)]
    same = torch.arange(len(earlier), device=first.device)[None, :] % K == torch.arange(K, device=first.device)[:, None]
    logits = torch.cat([first @ second.T, first @ earlier.T], dim=1) / temperature
    taken = torch.cat([there[1].expand(K, K), there[2] & ~same], dim=1)
    both = there[0] & there[1]
    # A cluster that takes no part keeps one finite logit, so that neither its loss nor its gradient is NaN.
    taken = taken | torch.eye(K, K + len(earlier), dtype=torch.bool, device=first.device)
    losses = F.cross_entropy(
        logits.masked_fill(~taken, -torch.inf), torch.arange(K, device=first.device), reduction="none"
    )
    return (losses * both).sum() / both.sum().clamp_min(1)


class TCC(TeacherMethod):
    """Projector, assigner and an embedding of each cluster; a teacher of all but the last; two queues."""

    Params = TCCParams
    modalities = (IMAGE, VOLUME)
    smallest_batch = 2
    taps = (ASSIGNER,)
    params: TCCParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: TCCParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        most, why = max(2, context.images // 2), "that is half of the training images"
        self.clusters = self.limited("clusters", params.clusters, most, why)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])
        widths = [backbone.num_features, params.hidden, params.output, self.clusters]
        self.assigner = Assigner(widths, 1.0 / params.assignment_temperature)
        self.embedding = nn.Linear(self.clusters, params.output, bias=False)
        self.queue = Queue(queue_length(self, params.queue), params.output)
        self.earlier = Queue(params.cluster_queue * self.clusters, params.output) if params.cluster_queue else None
        self.add_teacher("backbone", "projector", "assigner")

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast the first view's queries and clusters with the second view's keys and clusters."""
        params = self.params
        features_Bd = self.backbone(batch.views[0])
        z, logits_BK = self.projector(features_Bd).float(), self.assigner(features_Bd).float()
        drawn_BK = gumbel_softmax(logits_BK, params.gumbel_temperature, torch.rand_like(logits_BK))
        with torch.no_grad():
            other_Bd = self.teacher["backbone"](batch.views[1])
            keys, prior_BK = self.teacher["projector"](other_Bd).float(), self.teacher["assigner"](other_Bd).float()
            others_Kd = cluster_vectors(torch.softmax(prior_BK, dim=1), keys)
        queries = z + self.embedding(drawn_BK).float()
        found = log_likelihood(queries, keys, self.queue.stored(), params.temperature)
        loss = -bound(found, logits_BK, prior_BK).mean()
        if params.alpha:
            clusters_Kd = cluster_vectors(drawn_BK, z)
            earlier = clusters_Kd[:0] if self.earlier is None else self.earlier.stored()
            loss = loss + params.alpha * cluster_contrast(clusters_Kd, others_Kd, earlier, params.temperature)
        self.queue.push(F.normalize(keys, dim=1))
        if self.earlier is not None:
            self.earlier.push(others_Kd)
        spread = evenness(torch.softmax(logits_BK, dim=1))
        loss = loss - params.balance * spread
        return loss, {"features": features_Bd, "projections": z, "evenness": spread}

    def heads(self) -> dict[str, Projector | Classifier | Assigner]:
        """Return projector and assigner of the network that is kept."""
        kept = self.teacher["assigner"] if self.params.keep == "teacher" else self.assigner
        assert isinstance(kept, Assigner)
        return {**super().heads(), ASSIGNER: kept}
