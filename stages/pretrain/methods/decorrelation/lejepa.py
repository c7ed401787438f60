"""`lejepa`: views agree, and embeddings are drawn to an isotropic Gaussian by tests on random directions.

Source: Balestriero, LeCun, "LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics", arXiv
2511.08544 (2025). Authors' code: rbalestr-lab/lejepa.

Idea: the isotropic Gaussian minimises the worst-case risk of later probes. A distribution is that Gaussian exactly when
each of its projections is a standard normal, so a test of normality on random directions (SIGReg) replaces negatives,
teachers, stopped gradients and schedules.

Deviations: all views have the run's size (the authors add small crops); the directions are drawn anew in each step.
What could not be checked against the paper, only against codes, is a parameter: some integrate over [0, 3] and double
it, some over [-5, 5] (`limit`); some take 256 directions, some 1024 (`slices`); the weight is 0.02 or 0.05. `recipe:
paper` is the authors' minimal example, since the paper searches over rates and decays.

Shape legend: V views, B batch, d projection, A directions, T knots.

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
from reprise.networks.heads import Projector
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import HiddenWidth, Layers, OutputWidth, RecipeParams
from stages.pretrain.parts import paper_views
from stages.pretrain.views.settings import ViewSettings


class LeJEPAParams(RecipeParams):
    """Parameters of `lejepa`."""

    PAPER: ClassVar = {  # the authors' minimal example (MINIMAL.md), which decays all parameters and ends at 0.001
        "optimizer": "adamw", "learning_rate": 2e-3, "learning_rate_scaling": "linear",
        "warmup_epochs": 1, "warmup_start": 0.01, "schedule": {"name": "cosine", "end": 0.5}, "schedule_stretch": 1.0,
        "clip_norm": 0.0, "weight_decay": 0.05, "decay_vectors": True,
        "views": paper_views.with_options(paper_views.SIMCLR, solarize={"probability": 0.2}),
        "weight": 0.02, "crops": 4,
    }  # fmt: skip
    crops: Annotated[int, Field(ge=2, le=64), meaning("Each image gives this many crops (V).", "crops")] = 4
    weight: Annotated[float, Field(gt=0, lt=1), meaning("SIGReg has this share of the loss (lambda).")] = 0.05
    slices: Annotated[
        int, Field(ge=1, le=65536), meaning("SIGReg looks along this many random directions (A).", "directions")
    ] = 256
    knots: Annotated[
        int, Field(ge=3, le=1025), meaning("The integral of SIGReg is a sum over this many points.", "points")
    ] = 17
    limit: Annotated[
        float, Field(gt=0, le=20), meaning("The integral of SIGReg reaches from minus this value to this value.")
    ] = 3.0
    hidden: HiddenWidth = 256
    output: OutputWidth = 16
    layers: Layers = 3


@full_precision
def sigreg(z: Tensor, directions: Tensor, knots: int, limit: float) -> Tensor:
    """Average the Epps-Pulley statistic of normality over directions.

    B * integral over t in [-limit, limit] of |phi_B(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt, phi_B being the empirical
    characteristic function of the B projections; by the trapezoid rule on [0, limit], doubled by symmetry.

    Args:
        z: (B, d). directions: (d, A) of length one.

    Returns:
        A scalar, at least 0; finite for any batch, also of one.
    """
    t = torch.linspace(0.0, limit, knots, dtype=z.dtype, device=z.device)
    gaussian = torch.exp(-t.square() / 2.0)
    angle_BAT = (z @ directions).unsqueeze(2) * t
    error_AT = (angle_BAT.cos().mean(dim=0) - gaussian).square() + angle_BAT.sin().mean(dim=0).square()
    return len(z) * 2.0 * torch.trapezoid(error_AT * gaussian, t, dim=1).mean()


@full_precision
def lejepa_loss(
    z: Tensor, directions: Tensor, weight: float, knots: int, limit: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(1 - weight) * mean squared distance to the mean over views + weight * mean over views of SIGReg.

    Args:
        z: (V, B, d), not normalised.

    Returns:
        Loss, distance, SIGReg.
    """
    distance = (z - z.mean(dim=0, keepdim=True)).square().mean()
    normality = torch.stack([sigreg(z_v, directions, knots, limit) for z_v in z]).mean()
    return (1.0 - weight) * distance + weight * normality, distance, normality


class LeJEPA(Method):
    """Backbone, projector, V views."""

    Params = LeJEPAParams
    smallest_batch = 2
    params: LeJEPAParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: LeJEPAParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """Plan V equal views."""
        return [settings] * self.params.crops

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss with random directions, which come from the step's seed."""
        features = embed_views(self.backbone, batch.views)
        z = self.projector(features).view(len(batch.views), len(batch.rows), -1).float()
        directions = F.normalize(torch.randn(z.shape[2], self.params.slices), dim=0).to(z.device)
        loss, distance, normality = lejepa_loss(z, directions, self.params.weight, self.params.knots, self.params.limit)
        shown = {"features": features[: len(batch.rows)], "projections": z[0]}
        return loss, shown | {"distance": distance, "normality": normality}
