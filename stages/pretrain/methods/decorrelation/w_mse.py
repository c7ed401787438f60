"""`w_mse`: whitening mean squared error; views agree after whitening, which rules collapse out.

Source: Ermolov, Siarohin, Sangineto, Sebe, "Whitening for Self-Supervised Representation Learning", ICML 2021. Authors'
code: htdt/self-supervised.

Idea: all projections of a batch are whitened to the identity covariance, then the two views of an image are drawn
together. Whitened vectors cannot all be equal, so neither negatives nor asymmetry are needed. The batch is cut at
random into sub-batches, several times, since small ones whiten unstably and one large one every time alike.

Each view is whitened apart within a sub-batch, as in the authors' code; `together` whitens both as one set.

Deviations: the authors run the two views through the network apart, here they go together. Their warm-up takes 500
steps, five epochs of CIFAR-10; `recipe: paper` has the five epochs. A singular covariance has no whitening: `shrinkage`
mixes in the identity (the code's `eps`, 0 there).

Shape legend: B batch, d projection, W sub-batch.

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
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import Projector
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import HiddenWidth, OutputWidth, RecipeParams
from stages.pretrain.parts import paper_views


class WMSEParams(RecipeParams):
    """Parameters of `w_mse`."""

    PAPER: ClassVar = {  # CIFAR-10 with batches of 512: 0.003, a fifth of it 50 and 25 epochs before the end of 1000
        "optimizer": "adam", "learning_rate": 0.0015, "learning_rate_scaling": "linear",
        "warmup_epochs": 5, "warmup_start": 0.0,
        "schedule": {"name": "step", "milestones": [0.95, 0.975], "factor": 0.2}, "schedule_stretch": 1.0,
        "clip_norm": 0.0, "weight_decay": 1e-6, "decay_vectors": True,
        "views": paper_views.with_options(
            paper_views.MOCO_V2, grey={"probability": 0.1}, blur={"probability": 0.0}
        ),
    }  # fmt: skip
    sub_batch: Annotated[
        int,
        Field(ge=3, le=65536),
        meaning(
            "Projections are whitened in parts of this many images (W), at least twice the output in the paper.",
            "images",
        ),
    ] = 128
    rounds: Annotated[
        int, Field(ge=1, le=64), meaning("Each batch is cut into parts this many times at random.", "rounds")
    ] = 1
    shrinkage: Annotated[
        float, Field(ge=0, lt=1), meaning("The covariance is mixed with this share of the identity.")
    ] = 1e-3
    together: Annotated[bool, meaning("Both views are whitened as one set.")] = False
    hidden: HiddenWidth = 256
    output: OutputWidth = 32


@full_precision
def whiten(z: Tensor, shrinkage: float) -> Tensor:
    """Bring (W, d) to mean 0 and covariance I, by the inverse Cholesky factor of the (unbiased) covariance.

    With shrinkage e the covariance is (1 - e) S + e I. Needs e > 0 or W > d; equal rows give zeros with e > 0.
    """
    centred = z - z.mean(dim=0)
    covariance = centred.T @ centred / max(1, len(z) - 1)
    identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    factor = torch.linalg.cholesky((1.0 - shrinkage) * covariance + shrinkage * identity)
    return torch.linalg.solve_triangular(factor, centred.T, upper=False).T


@full_precision
def w_mse_loss(first: Tensor, second: Tensor, parts: list[Tensor], shrinkage: float, together: bool = False) -> Tensor:
    """Equation 5: 2 - 2 cos of the whitened (B, d) views, mean over sub-batches.

    Args:
        parts: the rows of each sub-batch.
    """
    total = first.new_zeros(())
    for rows in parts:
        if together:
            a, b = whiten(torch.cat([first[rows], second[rows]]), shrinkage).chunk(2)
        else:
            a, b = whiten(first[rows], shrinkage), whiten(second[rows], shrinkage)
        total = total + (2.0 - 2.0 * F.cosine_similarity(a, b, dim=1)).mean()
    return total / len(parts)


def sub_batches(count: int, size: int, rounds: int) -> list[Tensor]:
    """Cut `count` rows at random into equal parts of about `size`, `rounds` times, by torch's generator."""
    parts = max(1, count // size)
    return [rows for _ in range(rounds) for rows in torch.randperm(count).tensor_split(parts)]


class WMSE(Method):
    """Projector and whitening."""

    Params = WMSEParams
    modalities = (IMAGE, VOLUME)
    params: WMSEParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: WMSEParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, params.hidden, params.output])
        # Fewer images than dimensions leave the covariance singular whatever they are.
        self.smallest_batch = params.output // (2 if params.together else 1) + 1

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss over random cuts, which come from the step's seed."""
        features_2Bd = embed_views(self.backbone, batch.views)
        first, second = self.projector(features_2Bd).chunk(2)
        size = max(self.params.sub_batch, self.smallest_batch)
        parts = [rows.to(first.device) for rows in sub_batches(len(first), size, self.params.rounds)]
        loss = w_mse_loss(first, second, parts, self.params.shrinkage, self.params.together)
        return loss, {"features": features_2Bd[: len(first)], "projections": first}
