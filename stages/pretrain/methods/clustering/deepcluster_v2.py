"""`deepcluster_v2`: cluster all images once an epoch, then learn to predict each image's cluster.

Source: Caron et al. 2020 (the SwAV paper), appendix; its first version is Caron, Bojanowski, Joulin, Douze, "Deep
Clustering for Unsupervised Learning of Visual Features", ECCV 2018. Authors' code: facebookresearch/swav,
main_deepclusterv2.py.

Idea: projections of all images are kept from the epoch before. Spherical k-means on them gives assignments and, as the
classifier's fixed weights, centroids; several clusterings of one memory are several heads. Since the classifier is made
of the centroids, clusters need not be matched between epochs.

Deviations: the first epoch fills the memory while nothing is learned from it (loss 0; the authors make an extra pass);
there is one memory, of the first large crop (the authors take turns between two); a cluster without members takes the
image farthest from its own centroid (the authors leave it where it was). Optimiser and views are `train`'s unless
`recipe: paper` asks for the authors'. Paper: three heads of 3000 prototypes, projector 2048-128, multi-crop as in
`swav`.

Shape legend: B batch, V crops, K prototypes, n images.

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
from reprise.runtime.seeds import numpy_rng
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import HiddenWidth, OutputWidth, RecipeParams, Temperature
from stages.pretrain.parts import paper_views
from stages.pretrain.parts.memory import Memory, nearest_centroids, spherical_kmeans
from stages.pretrain.parts.multi_crop import MultiCropParams, embed_crops, multi_crop_plan
from stages.pretrain.views.settings import ViewSettings


class DeepClusterV2Params(MultiCropParams, RecipeParams):
    """Parameters of `deepcluster_v2`."""

    PAPER: ClassVar = {  # the release's scripts: 4.8 at a batch of 4096; LARC around SGD, on all parameters
        "optimizer": "lars", "optimizer_momentum": 0.9, "nesterov": False,
        "lars": {"trust": 0.001, "adapt_vectors": True, "separate_norms": True},
        "learning_rate": 0.3, "learning_rate_scaling": "linear", "warmup_epochs": 10, "warmup_start": 0.0625,
        "schedule": {"name": "cosine", "end": 0.001}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1e-6, "decay_vectors": True, "views": paper_views.SIMCLR,
        "scale_split": 0.14, "small_scale_min": 0.05,
    }  # fmt: skip
    temperature: Temperature = 0.1
    prototypes: Annotated[
        int,
        Field(ge=2, le=1_000_000),
        meaning("Each head has this many prototypes (K), no more than there are images.", "prototypes"),
    ] = 256
    clusterings: Annotated[int, Field(ge=1, le=16), meaning("This many heads cluster the images.", "heads")] = 3
    iterations: Annotated[
        int,
        Field(ge=1, le=1000),
        meaning("Spherical k-means takes this many iterations before each epoch.", "iterations"),
    ] = 10
    hidden: HiddenWidth = 256
    output: OutputWidth = 128


@full_precision
def assignment_loss(z: Tensor, centroids: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Average the cross entropy of each image's cluster over crops, heads and batch.

    Args:
        z: (V, B, d) of length one. centroids: (H, K, d). labels: (H, B) int64.
    """
    logits_HVBK = torch.einsum("vbd,hkd->hvbk", z, centroids) / temperature
    targets = labels[:, None].expand(-1, len(z), -1)
    return F.cross_entropy(logits_HVBK.flatten(0, 2), targets.flatten())


class DeepClusterV2(Method):
    """Projector, memory, centroids as buffers."""

    Params = DeepClusterV2Params
    smallest_batch = 2
    params: DeepClusterV2Params
    projector: Projector
    centroids: Tensor
    labels: Tensor

    def __init__(self, backbone: nn.Module, params: DeepClusterV2Params, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, params.hidden, params.output])
        self.memory = Memory(context.images, params.output)
        why = "there are no more training images"
        clusters = self.limited("prototypes", params.prototypes, context.images, why)
        self.register_buffer("centroids", torch.zeros(params.clusterings, clusters, params.output))
        self.register_buffer("labels", torch.zeros(params.clusterings, context.images, dtype=torch.int64))

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """Plan two large crops and `small_crops` small ones."""
        return multi_crop_plan(settings, self.params)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Renew the batch's part of the memory; the clusters of this epoch stay until its end."""
        features = embed_crops(self.backbone, batch.views)
        z = F.normalize(self.projector(features).float(), dim=1).view(len(batch.views), len(batch.rows), -1)
        if int(self.memory.written) < self.context.images:
            loss = 0.0 * z.sum()
        else:
            loss = assignment_loss(z, self.centroids, self.labels[:, batch.rows], self.params.temperature)
        self.memory.write(batch.rows, z[0])
        return loss, {"features": features[: len(batch.rows)], "projections": z[0]}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Cluster the memory once for each head at the end of an epoch, when all of it was written again."""
        written = int(self.memory.written)
        if written % self.context.images:
            return
        for head in range(self.params.clusterings):
            rng = numpy_rng(self.context.seed, "clustering", written // self.context.images, head)
            clusters = self.centroids.shape[1]
            found = spherical_kmeans(self.memory.vectors, clusters, self.params.iterations, rng)
            self.centroids[head] = found
            self.labels[head] = nearest_centroids(self.memory.vectors, found)
