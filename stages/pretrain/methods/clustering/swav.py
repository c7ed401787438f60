"""`swav`: swapped assignments; predict from one crop the prototypes that another crop was assigned to.

Source: Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, "Unsupervised Learning of Visual Features by Contrasting
Cluster Assignments", NeurIPS 2020. Authors' code: facebookresearch/swav.

Idea: assignments of a batch to learned prototypes, made equal in number by Sinkhorn-Knopp, are the targets; they come
from the two large crops and are predicted from all other crops. A queue of earlier projections helps where a batch is
smaller than the number of prototypes; it is compared with the prototypes anew in each step.

Deviations: prototypes are normalised within the forward pass, not after each step. The queue starts after a share of
the training, not at epoch 15. Optimiser and views are `train`'s unless `recipe: paper` asks for the authors', who
publish scripts for batches of 256 and of 4096; the nearer one is taken. Paper: 3000 prototypes, projector 2048-128,
queue 3840.

Shape legend: B batch, V crops, K prototypes, Q queue.

Checked by: tests/stages/pretrain/methods/losses/test_multi_view_losses.py;
tests/stages/pretrain/methods/test_recipes.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import Projector, Prototypes
from reprise.objectives.precision import full_precision
from reprise.objectives.sinkhorn import sinkhorn
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import HiddenWidth, OutputWidth, RecipeParams, Temperature
from stages.pretrain.parts import paper_views
from stages.pretrain.parts.multi_crop import LARGE, MultiCropParams, embed_crops, multi_crop_plan
from stages.pretrain.parts.queue import Queue, queue_length
from stages.pretrain.views.settings import ViewSettings


class SwAVParams(MultiCropParams, RecipeParams):
    """Parameters of `swav`."""

    PAPER: ClassVar = {  # the release's scripts for batches of 256: LARC around SGD, on all parameters
        "optimizer": "lars", "optimizer_momentum": 0.9, "nesterov": False,
        "lars": {"trust": 0.001, "adapt_vectors": True, "separate_norms": True},
        "learning_rate": 0.6, "learning_rate_scaling": "linear", "warmup_epochs": 0, "warmup_start": 0.0,
        "schedule": {"name": "cosine", "end": 0.001}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1e-6, "decay_vectors": True, "views": paper_views.SIMCLR, "queue": 3840,
        "scale_split": 0.14, "small_scale_min": 0.05,
    }  # fmt: skip
    PAPER_LARGE_BATCH: ClassVar = {  # its scripts for batches of 4096: 4.8, which is not 16 times 0.6, and no queue
        **PAPER, "learning_rate": 0.3, "warmup_epochs": 10, "warmup_start": 0.0625, "queue": 0,
    }  # fmt: skip
    temperature: Temperature = 0.1
    epsilon: Annotated[float, Field(gt=0, le=10), meaning("Sinkhorn's assignments have this temperature.")] = 0.05
    iterations: Annotated[int, Field(ge=1, le=1000), meaning("Sinkhorn takes this many iterations.", "iterations")] = 3
    prototypes: Annotated[
        int, Field(ge=2, le=1_000_000), meaning("Images are assigned to this many prototypes.", "prototypes")
    ] = 256
    queue: Annotated[
        int,
        Field(ge=0, le=10_000_000),
        meaning(
            "Projections of this many earlier images help to balance the assignments of each large crop; 0 for none.",
            "images",
        ),
    ] = 3840
    queue_from: Annotated[
        float,
        Field(ge=0, le=1),
        meaning("The queue is used after this share of the training (paper: 15 of 400 epochs)."),
    ] = 0.0375
    frozen_for: Annotated[
        float,
        Field(ge=0, le=1),
        meaning("The prototypes stay as they are for this share of the training (paper: about 1 of 400 epochs)."),
    ] = 0.0025
    hidden: HiddenWidth = 256
    output: OutputWidth = 128


@full_precision
def swapped_prediction(scores: list[Tensor], assignments: list[Tensor], temperature: float) -> Tensor:
    """Equation 2, over several crops: cross entropy of each large crop's assignment with every other crop's softmax.

    Args:
        scores: V tensors (B, K), large crops first. assignments: (B, K) of each large crop, rows sum to 1.

    Returns:
        Mean over the large crops of the mean over the other crops of the mean over the batch.
    """
    total = scores[0].new_zeros(())
    for i, q in enumerate(assignments):
        others = [s for v, s in enumerate(scores) if v != i]
        total = total - sum((q * F.log_softmax(s / temperature, dim=1)).sum(dim=1).mean() for s in others) / len(others)
    return total / len(assignments)


class SwAV(Method):
    """Projector, prototypes, a queue for each large crop."""

    Params = SwAVParams
    smallest_batch = 2
    params: SwAVParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: SwAVParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, params.hidden, params.output])
        self.prototypes = Prototypes(params.output, params.prototypes)
        length = queue_length(self, params.queue)
        self.queues = nn.ModuleList(Queue(length, params.output) for _ in range(LARGE if length else 0))
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """Plan two large crops and `small_crops` small ones."""
        return multi_crop_plan(settings, self.params)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Assign the batch together with the queue, whose assignments are then left out."""
        features = embed_crops(self.backbone, batch.views)
        projections = F.normalize(self.projector(features).float(), dim=1)
        scores = list(self.prototypes(projections).chunk(len(batch.views)))
        assignments = [self._assigned(scores[i], i) for i in range(LARGE)]
        for queue, z in zip(self.queues, projections.chunk(len(batch.views)), strict=False):
            queue.push(z)
        loss = swapped_prediction(scores, assignments, self.params.temperature)
        first = slice(len(batch.rows))
        return loss, {"features": features[first], "projections": projections[first]}

    @torch.no_grad()
    def _assigned(self, scores: Tensor, crop: int) -> Tensor:
        count = len(scores)
        if self.queues and float(self.progress) >= self.params.queue_from and self.queues[crop].full:
            scores = torch.cat([scores, self.prototypes(self.queues[crop].stored())])
        return sinkhorn(scores, self.params.epsilon, self.params.iterations)[:count]

    def after_backward(self, progress: float) -> None:
        """Freeze the prototypes until the projector has left its random start."""
        if progress < self.params.frozen_for:
            self.prototypes.weight.grad = None

    def after_step(self, progress: float) -> None:
        """Remember how far training has come."""
        self.progress.fill_(progress)
