"""`odc`: online deep clustering; labels and centroids move with every step instead of once an epoch.

Source: Zhan, Xie, Liu, Ong, Loy, "Online Deep Clustering for Unsupervised Representation Learning", CVPR 2020. Authors'
code: open-mmlab/mmselfsup (0.x), odc.

Idea: a memory keeps a slowly changing vector and a label for each image. Each step takes labels from the memory for its
loss, mixes new vectors in, and gives the images of the batch the label of the nearest centroid; centroids follow every
few steps, and clusters that became too small are dissolved and refilled by splitting the largest. No pause to cluster,
and labels never jump.

Deviations (ODC-like): the first epoch fills the memory (loss 0), spherical k-means gives the first labels (the authors
cluster features of the untrained network beforehand); members of a dissolved cluster go to their nearest other
centroid; the largest cluster is split by one round of 2-means from a random halving. Paper: 10000 clusters of at least
20, hidden 512, output 256, one view. `recipe: paper_optimizer` has no views: the authors turn images by up to two
degrees and change the colours of all of them, which cannot be stated here.

Shape legend: B batch, K clusters, n images, d projection.

Checked by: tests/stages/pretrain/methods/losses/test_clustering_losses.py;
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
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import HiddenWidth, OptimizerRecipeParams, OutputWidth
from stages.pretrain.parts.memory import Memory, nearest_centroids
from stages.pretrain.parts.online_labels import move_labels


class ODCParams(OptimizerRecipeParams):
    """Parameters of `odc`."""

    PAPER: ClassVar = {  # mmselfsup: 0.06 at a batch of 512, times 0.4 after 400 of 440 epochs
        "optimizer": "sgd", "optimizer_momentum": 0.9, "nesterov": False,
        "learning_rate": 0.03, "learning_rate_scaling": "linear", "warmup_epochs": 0, "warmup_start": 0.0,
        "schedule": {"name": "step", "milestones": [400 / 440], "factor": 0.4}, "schedule_stretch": 1.0,
        "clip_norm": 0.0, "weight_decay": 1e-5, "decay_vectors": True,
    }  # fmt: skip
    clusters: Annotated[
        int,
        Field(ge=2, le=1_000_000),
        meaning("The images fall into this many clusters (K), at most half as many as images.", "clusters"),
    ] = 256
    momentum: Annotated[
        float,
        Field(ge=0, lt=1),
        meaning("An image's stored vector keeps this share of itself when it is seen again (paper: 0.5)."),
    ] = 0.5
    centroid_steps: Annotated[
        int, Field(ge=1, le=1_000_000), meaning("Centroids are computed anew after every so many steps.", "steps")
    ] = 10
    smallest: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        meaning(
            "A cluster with fewer images is dissolved; the limit is a quarter of n / K where that is less.", "images"
        ),
    ] = 20
    reweight: Annotated[bool, meaning("Classes are weighed by 1 / sqrt(members).")] = True
    hidden: HiddenWidth = 256
    output: OutputWidth = 128


@full_precision
def weighted_cross_entropy(logits: Tensor, labels: Tensor, members: Tensor, reweight: bool) -> Tensor:
    """Average the cross entropy of (B, K) logits, weighted by 1 / sqrt(members + 1) of each image's class.

    It is divided by the sum of the batch's weights, as in the authors' code, so that a batch whose images all lie in
    large clusters moves the network as far as any other.

    Args:
        labels: (B,) int64. members: (K,) images of each cluster.
    """
    weight = (members.to(logits.dtype) + 1.0).rsqrt() if reweight else None
    return F.cross_entropy(logits, labels, weight)


class ODC(Method):
    """Projector, memory, a linear classifier that keeps up with the labels."""

    Params = ODCParams
    views = 1
    smallest_batch = 2
    params: ODCParams
    projector: Projector
    centroids: Tensor
    labels: Tensor
    steps: Tensor

    def __init__(self, backbone: nn.Module, params: ODCParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, params.hidden, params.output])
        most, why = max(2, context.images // 2), "that is half of the training images"
        clusters = self.limited("clusters", params.clusters, most, why)
        most, why = max(1, context.images // clusters // 4), "that is a quarter of the mean size of a cluster"
        self.smallest = self.limited("smallest", params.smallest, most, why)
        self.classifier = nn.Linear(params.output, clusters)
        self.memory = Memory(context.images, params.output, params.momentum)
        self.register_buffer("centroids", torch.zeros(clusters, params.output))
        self.register_buffer("labels", torch.zeros(context.images, dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def clustered(self) -> bool:
        """Tell whether the memory is whole and the images have labels."""
        return int(self.memory.written) >= self.context.images

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss with the labels from before this step."""
        features = embed_views(self.backbone, batch.views)
        z = self.projector(features)
        logits = self.classifier(z)
        if not self.clustered:
            loss = 0.0 * logits.float().sum()
        else:
            members = torch.bincount(self.labels, minlength=len(self.centroids))
            loss = weighted_cross_entropy(logits, self.labels[batch.rows], members, self.params.reweight)
        had_labels = self.clustered
        self.memory.write(batch.rows, z)
        if had_labels:
            self.labels[batch.rows] = nearest_centroids(self.memory.vectors[batch.rows], self.centroids)
        return loss, {"features": features, "projections": z}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Cluster once the memory is whole; afterwards move the centroids every few steps."""
        if not self.clustered:
            return
        move_labels(
            self.memory.vectors, self.labels, self.centroids, int(self.steps),
            every=self.params.centroid_steps, smallest=self.smallest, seed=self.context.seed,
        )  # fmt: skip
        self.steps += 1
