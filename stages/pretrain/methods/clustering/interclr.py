"""`interclr`: momentum contrast, and contrast between images by labels that move with the training.

Source: Xie, Zhan, Liu, Ong, Loy, "Delving into Inter-Image Invariance for Unsupervised Visual Representations", IJCV
2022, arXiv 2008.11702. Authors' code: open-mmlab/mmselfsup (0.x), interclr; its configuration was read.

Idea: a bank holds the latest key of every image and a label for it. Beside MoCo v2's loss a query should be close to
the key of another image with its label, and far from keys with other labels. These negatives are semi-hard: drawn from
the most similar part of the bank, neither the hardest, which are often of the same kind, nor any. Loss =
(1 - w) InfoNCE(q, k, queue) + w L, and for one query, with cosines s,

    L = -log( exp((s(q, p) - m) / t) / (exp((s(q, p) - m) / t) + sum over n of exp(s(q, n) / t)) ).

The margin m is -0.5: it makes the positive look closer than it is, a looser boundary, because labels may be wrong.

Deviations: the first epoch fills the bank (MoCo v2's loss alone) and spherical k-means then gives the labels; the
authors cluster features of the untrained network beforehand. Centroids have length one (theirs are plain means, which
draw images to tight clusters), and small clusters are refilled when the centroids move, not in every step. An image is
its own positive only where it is alone in its cluster. Negatives are drawn at once from those entries of the pool that
have another label, with replacement, which is the distribution of the authors' drawing anew without its endless loop; a
query whose pool has none has no negatives. Sizes are shares of the bank: the paper's are 16,384 of a pool of 128,000,
and 10,000 clusters, for 1,281,167 images. `labels: mined` takes the run's label set, which stays as it is.

Shape legend: B batch, n images, P pool, M negatives, K clusters, d projection.

Checked by: tests/stages/pretrain/methods/losses/test_interclr.py; tests/stages/pretrain/methods/test_recipes.py;
docs/measurements/relations.md.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field as Limits
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import PlainHead
from reprise.objectives.info_nce import info_nce
from reprise.objectives.precision import full_precision
from reprise.runtime.seeds import torch_rng
from stages.pretrain.method import Batch, Context, Field
from stages.pretrain.params import HiddenWidth, OutputWidth, Temperature
from stages.pretrain.parts import paper_views
from stages.pretrain.parts.memory import Memory, nearest_centroids
from stages.pretrain.parts.online_labels import move_labels
from stages.pretrain.parts.queue import Queue, queue_length
from stages.pretrain.parts.teacher import LastMomentum, Momentum, TeacherMethod, TeacherParams

CLUSTER_SHARE = 0.0078  # the paper's clusters for each image: 10,000 for 1,281,167


class InterCLRParams(TeacherParams):
    """Parameters of `interclr`. Momentum is constant in the paper; a run of a few hundred steps needs less."""

    PAPER: ClassVar = {  # mmselfsup: interclr-moco_resnet50_8xb32-coslr-200e_in1k
        "optimizer": "sgd", "optimizer_momentum": 0.9, "nesterov": False,
        "learning_rate": 0.03, "learning_rate_scaling": "linear", "warmup_epochs": 0, "warmup_start": 0.0,
        "schedule": {"name": "cosine", "end": 0.0}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1e-4, "decay_vectors": True, "views": paper_views.MOCO_V2,
        "momentum": 0.999, "momentum_end": 0.999,
    }  # fmt: skip
    temperature: Temperature = 0.2
    queue: Annotated[
        int, Limits(ge=1, le=10_000_000), meaning("This many keys of earlier batches serve as negatives.", "keys")
    ] = 65536
    labels: Annotated[
        Literal["online", "mined"],
        meaning("Labels move with the training (`online`), or are those of the run's label set (`mined`)."),
    ] = "online"
    weight: Annotated[
        float, Limits(ge=0, le=1), meaning("The contrast between images makes up this share of the loss.")
    ] = 0.25
    margin: Annotated[
        float,
        Limits(ge=-2, le=2),
        meaning("This is taken off the cosine of a positive of the contrast between images."),
    ] = -0.5
    pool: Annotated[
        float, Limits(gt=0, le=1), meaning("Negatives come from this share of the bank, the most similar keys.")
    ] = 0.1
    negatives: Annotated[
        float, Limits(gt=0, le=1), meaning("A query has negatives as many as this share of the bank.")
    ] = 0.0128
    clusters: Annotated[
        Annotated[int, Limits(ge=2, le=1_000_000)] | None,
        meaning("Online labels name this many clusters; null makes 7.8 for 1,000 images, as the paper.", "clusters"),
    ] = None
    centroid_steps: Annotated[
        int, Limits(ge=1, le=1_000_000), meaning("Centroids are computed anew after every so many steps.", "steps")
    ] = 10
    smallest: Annotated[
        int,
        Limits(ge=1, le=1_000_000),
        meaning(
            "A cluster with fewer images is dissolved; the limit is a quarter of n / K where that is less.", "images"
        ),
    ] = 20
    momentum: Momentum = 0.999
    momentum_end: LastMomentum = 0.999
    hidden: HiddenWidth = 256
    output: OutputWidth = 128


def drawn(allowed: Tensor, uniform: Tensor) -> Tensor:
    """Draw columns that are allowed, each with the same probability, with replacement.

    Args:
        allowed: (B, n) bool. uniform: (B, M) in [0, 1).

    Returns:
        (B, M) int64. A row that allows nothing gets any columns: the caller looks at `allowed.any(dim=1)`.
    """
    rank = allowed.cumsum(dim=1, dtype=torch.int32)  # of each allowed column, from 1
    wanted = (uniform * rank[:, -1:]).to(torch.int32) + 1
    return torch.searchsorted(rank, wanted).clamp_(max=allowed.shape[1] - 1)


def draw_positives(labels: Tensor, rows: Tensor, uniform: Tensor) -> Tensor:
    """Draw another image of the same label for each anchor, or the anchor itself where there is no other.

    Args:
        labels: (n,) int64. rows: (B,) the anchors. uniform: (B, 1) in [0, 1).

    Returns:
        (B,) int64.
    """
    same = labels[rows][:, None] == labels
    anchors = torch.arange(len(rows), device=rows.device)
    same[anchors, rows] = False
    alone = ~same.any(dim=1)
    same[anchors, rows] = alone
    return drawn(same, uniform)[:, 0]


def draw_semi_hard(
    similarity: Tensor, labels: Tensor, own: Tensor, pool: int, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw negatives of other labels among the most similar images.

    Args:
        similarity: (B, n) of the queries to the bank. labels: (n,) int64, -1 where there is none.
        own: (B,) labels of the queries.
        pool: P, how many of the most similar images may be drawn.
        uniform: (B, M) in [0, 1).

    Returns:
        (B, M) int64, and (B,) bool, whether the pool has any image of another label. An image without one may be of
        the query's kind, so it is no negative.
    """
    most_similar = similarity.topk(pool, dim=1, sorted=False).indices
    found = labels[most_similar]
    allowed = (found >= 0) & (found != own[:, None])
    return most_similar.gather(1, drawn(allowed, uniform)), allowed.any(dim=1)


@full_precision
def inter_image_loss(
    similarity: Tensor, positives: Tensor, negatives: Tensor, present: Tensor, margin: float, temperature: float
) -> Tensor:
    """Average the contrast between images over the queries.

    Args:
        similarity: (B, n) cosines of the queries to the bank.
        positives: (B,) and negatives: (B, M), columns of it.
        present: (B,) bool, whether the negatives of a query count; without negatives its loss is 0.
        margin: taken off the positive's cosine.
        temperature: above 0.

    Returns:
        A scalar; 0 for no queries.
    """
    positive = similarity.gather(1, positives[:, None]) - margin
    negative = similarity.gather(1, negatives).masked_fill(~present[:, None], float("-inf"))
    logits = torch.cat([positive, negative], dim=1) / temperature
    right = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    return F.cross_entropy(logits, right, reduction="sum") / max(1, len(logits))


class InterCLR(TeacherMethod):
    """MoCo v2, a bank of keys, and labels of its entries."""

    Params = InterCLRParams
    modalities = (IMAGE, VOLUME)
    params: InterCLRParams
    centroids: Tensor
    labels: Tensor
    steps: Tensor

    def __init__(self, backbone: nn.Module, params: InterCLRParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.head = PlainHead([backbone.num_features, params.hidden, params.output])
        self.queue = Queue(queue_length(self, params.queue), params.output)
        self.bank = Memory(context.images, params.output)
        self.register_buffer("labels", torch.full((context.images,), -1, dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        if params.labels == "mined":
            self.needs: tuple[Field, ...] = ("clusters",)
        else:
            asked = params.clusters or max(2, round(CLUSTER_SHARE * context.images))
            most, why = max(2, context.images // 2), "that is half of the training images"
            clusters = self.limited("clusters", asked, most, why)
            most, why = max(1, context.images // clusters // 4), "that is a quarter of the mean size of a cluster"
            self.smallest = self.limited("smallest", params.smallest, most, why)
            self.register_buffer("centroids", torch.zeros(clusters, params.output))
        self.add_teacher("backbone", "head")

    @property
    def whole(self) -> bool:
        """Tell whether the bank has a key and a label of every image."""
        full = int(self.bank.written) >= self.context.images
        return full and (self.params.labels == "mined" or int(self.steps) > 0)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast with the labels from before this step; keys then enter the queue and the bank."""
        features_Bd = self.backbone(batch.views[0])
        keys = self.taught(batch.views[1])
        queries = self.head(features_Bd)
        loss = info_nce(queries, keys, self.queue.stored(), self.params.temperature)
        if self.params.labels == "mined":
            self.labels[batch.rows] = batch.clusters
        labelled = self.whole
        if labelled and self.params.weight:
            inter = self._between_images(queries, batch.rows)
            loss = (1 - self.params.weight) * loss + self.params.weight * inter
        self.queue.push(F.normalize(keys.float(), dim=1))
        self.bank.write(batch.rows, keys)
        if labelled and self.params.labels == "online":
            self.labels[batch.rows] = nearest_centroids(self.bank.vectors[batch.rows], self.centroids)
        return loss, {"features": features_Bd, "projections": queries}

    def _between_images(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Compare the queries that have a label with keys of the bank."""
        rows, queries = rows[self.labels[rows] >= 0], queries[self.labels[rows] >= 0]
        count = self.context.images
        generator = torch_rng(self.context.seed, "between images", int(self.bank.written))
        number = 1 + max(1, round(self.params.negatives * count))
        uniform = torch.rand((len(rows), number), generator=generator, dtype=torch.float64).to(rows.device)
        similarity = _cosines(queries, self.bank.vectors.clone())  # the bank changes before the backward pass
        positives = draw_positives(self.labels, rows, uniform[:, :1])
        pool = max(1, round(self.params.pool * count))
        own = self.labels[rows]
        negatives, present = draw_semi_hard(similarity.detach(), self.labels, own, pool, uniform[:, 1:])
        return inter_image_loss(similarity, positives, negatives, present, self.params.margin, self.params.temperature)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Let the teacher follow the student; label once the bank is whole, then move the centroids now and then."""
        super().after_step(progress)
        if self.params.labels == "online" and int(self.bank.written) >= self.context.images:
            move_labels(
                self.bank.vectors, self.labels, self.centroids, int(self.steps),
                every=self.params.centroid_steps, smallest=self.smallest, seed=self.context.seed,
            )  # fmt: skip
            self.steps += 1


@full_precision
def _cosines(queries: Tensor, bank: Tensor) -> Tensor:
    """Return (B, n) cosines; the bank's rows are of length one."""
    return F.normalize(queries, dim=1) @ bank.T
