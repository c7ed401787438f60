"""`sie`: half of the features ignores how an object is turned, the other half turns with it.

Source: Garrido, Najman, LeCun, "Self-supervised learning of Split Invariant Equivariant representations", ICML 2023,
arXiv 2302.10283. Authors' code: facebookresearch/SIE (GPL-3.0; read for its constants, nothing of it is used).

Idea: two views of one object differ by a rotation g that is known. The features are split; the first part is made equal
for both views, the second must follow g through a matrix rho(g) that a hypernetwork makes of the four numbers of g:

    loss = invariance  mean (inv_1 - inv_2)^2
         + weight invariance  mean (rho(g) equi_1 - equi_2)^2
         + variance / 2  (v(z_1) + v(z_2) + v(rho(g) equi_1))
         + covariance  (c(z_1) + c(z_2)),                       z = projections of both parts side by side

v and c are VICReg's: v(z) is the mean of max(0, 1 - sqrt(var + 1e-4)) over dimensions, c(z) the sum of the squared
covariances of different dimensions over their number. On both parts together, c removes what one repeats of the other.
rho is linear and has no bias, so it is odd: q and -q, which are one rotation, would predict opposite vectors. Here g
has a sign, w >= 0, so both predict alike; the release chooses none. With `equivariant: 0` this is VICReg on the two
views.

A batch holds images and their partners: label sets of the miner `views` pair the views of an object, and the fact
`pose` of each image is a unit quaternion (w, x, y, z), as the source `mini3d` gives it.

Deviations: the last layer of a projector has a bias. rho begins at the scale of a linear layer of 4 e inputs instead of
4, so that it predicts vectors of the embeddings' own length. `weight` is 0.45, that of the published command; the
release's own default is 4.5. `frame: camera` is new: it states g in the camera's axes, in which the same turn changes
all objects alike, however they stand in their own. Views are `train`'s without `flip`, since no rotation leads to a
mirrored view, and changes that turn them are refused; the release changes no colours. The online evaluator of the
release is the probe `equivariance`. Weights of pairs do not count. Batches of 1,024 with Adam for 2,000 epochs, as in
the release, are not a recipe here.

Shape legend: P pairs of a batch, d features, z projections (of both parts), e of these that are equivariant.

Checked by: tests/stages/pretrain/methods/losses/test_sie.py; docs/measurements/factors.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.errors import TrainingError
from reprise.config.params import meaning
from reprise.networks.heads import Projector
from reprise.objectives.decorrelation.variance_covariance import covariance_term, variance_term
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import HiddenWidth, Layers, MethodParams, OutputWidth
from stages.pretrain.views.settings import ViewSettings

_UNIT = 1e-3  # a quaternion's length differs from 1 by at most this
_NUMBERS = 4  # of a quaternion


class SIEParams(MethodParams):
    """Parameters of `sie`."""

    equivariant: Annotated[
        float, Field(ge=0, lt=1), meaning("This share of the features, the last ones, turns with the object.")
    ] = 0.5
    frame: Annotated[
        Literal["object", "camera"],
        meaning("The rotation between two views is stated in the axes of the object or in those of the camera."),
    ] = "object"
    weight: Annotated[
        float,
        Field(ge=0),
        meaning("The error of the turned embedding counts so many times as much as the distance of the invariant one."),
    ] = 0.45
    invariance: Annotated[
        float, Field(ge=0), meaning("The distance between the views has this weight in the loss.")
    ] = 10.0
    variance: Annotated[float, Field(ge=0), meaning("The spread of each dimension has this weight in the loss.")] = 10.0
    covariance: Annotated[
        float, Field(ge=0), meaning("The covariance between dimensions has this weight in the loss.")
    ] = 1.0
    hidden: HiddenWidth = 512
    output: OutputWidth = 512
    layers: Layers = 3


@full_precision
def rotation_between(first: Tensor, second: Tensor, frame: str) -> Tensor:
    """Return the rotation that leads from one pose to another: first^-1 second, or second first^-1 for `camera`.

    Args:
        first, second: (P, 4) unit quaternions w, x, y, z.
        frame: `object` or `camera`.

    Returns:
        (P, 4), of q and -q the one whose first number that is not 0 is positive.
    """
    back = torch.cat([first[:, :1], -first[:, 1:]], dim=1)
    left, right = (back, second) if frame == "object" else (second, back)
    a, b, u, v = left[:, :1], right[:, :1], left[:, 1:], right[:, 1:]
    real = a * b - (u * v).sum(dim=1, keepdim=True)
    q = torch.cat([real, a * v + b * u + torch.linalg.cross(u, v)], dim=1)
    leading = q.gather(1, (q != 0).int().argmax(dim=1, keepdim=True))
    return torch.where(leading < 0, -q, q)


class Turning(nn.Module):
    """A linear hypernetwork: the four numbers of a rotation become a matrix, which an embedding is multiplied by.

    Args:
        width: e.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(_NUMBERS * width, width, bias=False)

    def forward(self, embeddings: Tensor, rotations: Tensor) -> Tensor:
        """Multiply (P, e) by the matrices of (P, 4): the sum of one matrix for each number, times that number."""
        return self.linear((rotations[:, :, None] * embeddings[:, None, :]).flatten(1))


class SIE(Method):
    """A backbone whose features are split, a projector for each part, and what turns the projections of the second."""

    Params = SIEParams
    views = 1
    reads = ("pose",)
    needs_pairs = True
    capturable = True
    smallest_batch = 4
    params: SIEParams

    def __init__(self, backbone: nn.Module, params: SIEParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        if "pose" in context.facts:  # `reprise check` lays methods out without data
            _refuse_poses(context.facts["pose"])
        d = backbone.num_features
        self.follows = 0 if not params.equivariant else min(max(1, round(params.equivariant * d)), d - 1)
        share = self.follows / d
        self.invariant_projector = self._projector(d - self.follows, 1 - share)
        if self.follows:
            self.equivariant_projector = self._projector(self.follows, share)
            self.turning = Turning(self.equivariant_projector.widths[-1])

    def _projector(self, features: int, share: float) -> Projector:
        """Make the projector of one part, as wide as its share of the features."""
        own = self.params
        widths = [max(1, round(width * share)) for width in [*[own.hidden] * (own.layers - 1), own.output]]
        return Projector([features, *widths])

    @property
    def upright(self) -> tuple[int, ...]:
        """A turned view has another pose than the fact says."""
        return (0,) if self.follows else ()

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """One view of each image, never mirrored."""
        return [settings.without("flip")]

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed images and partners in one pass; the terms are logged as they are, without their weights."""
        features_Bd = self.backbone(batch.views[0])
        pairs, own = batch.images // 2, self.params
        order = torch.cat([torch.arange(pairs, device=features_Bd.device), batch.partner[:pairs]])
        kept = features_Bd.shape[1] - self.follows
        invariant_Bi = self.invariant_projector(features_Bd[:, :kept])[order]
        parts, spread = [invariant_Bi], torch.zeros((), device=features_Bd.device)
        terms = {"invariance": _distance(*invariant_Bi.split(pairs))}
        if self.follows:
            turned_Be = self.equivariant_projector(features_Bd[:, kept:])[order]
            first, second = batch.fact("pose")[order].split(pairs)
            predicted_Pe = self.turning(turned_Be[:pairs], rotation_between(first, second, own.frame))
            parts.append(turned_Be)
            terms["equivariance"], spread = _distance(predicted_Pe, turned_Be[pairs:]), variance_term(predicted_Pe)
        projections_Bz = torch.cat(parts, dim=1)
        views = projections_Bz.split(pairs)
        terms["variance"] = (variance_term(views[0]) + variance_term(views[1]) + spread) / 2
        terms["covariance"] = covariance_term(views[0]) + covariance_term(views[1])
        loss = own.invariance * (terms["invariance"] + own.weight * terms.get("equivariance", 0.0))
        loss = loss + own.variance * terms["variance"] + own.covariance * terms["covariance"]
        return loss, {"features": features_Bd[order], "projections": projections_Bz, **terms}


@full_precision
def _distance(first: Tensor, second: Tensor) -> Tensor:
    return F.mse_loss(first, second)


def _refuse_poses(poses: np.ndarray) -> None:
    """Refuse poses that are no unit quaternions.

    Args:
        poses: (n, numbers), NaN where unknown.

    Raises:
        TrainingError: a pose is missing, or is none.
    """
    shape = poses.shape[1:]
    if unknown := int(np.isnan(poses).reshape(len(poses), -1).any(axis=1).sum()):
        rule, found = "every training image needs a pose", f"{unknown:,} of {len(poses):,} images without one"
    elif shape != (_NUMBERS,):
        rule, found = "a pose is a unit quaternion w, x, y, z", f"{shape[0] if shape else 1} numbers an image"
    elif (far := np.abs(np.linalg.norm(poses, axis=1) - 1)).max() > _UNIT:
        row = int(far.argmax())
        rule = "a pose is a unit quaternion w, x, y, z"
        found = f"{', '.join(f'{number:g}' for number in poses[row])}, of length {np.linalg.norm(poses[row]):.4g}"
    else:
        return
    raise TrainingError(
        rule,
        where="the fact 'pose'",
        found=found,
        fix="Let the source give it with every image: `mini3d` does, and `multiview` makes it of camera matrices.",
    )
