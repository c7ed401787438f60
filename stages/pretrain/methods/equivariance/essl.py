"""`essl`: SimCLR that ignores some transformations and can tell others, such as four rotations.

Source: Dangovski, Jing, Loh, Han, Srivastava, Cheung, Agrawal, Soljacic, "Equivariant Contrastive Learning", ICLR 2022,
arXiv 2111.00899. Authors' code: rdangovs/essl.

Idea: what a contrastive loss ignores is lost. Each transformation is therefore `invariant` or `predicted`. An invariant
one is applied to the two views at random, so that the features forget it. A predicted one is applied to a third, small
view of the image in all its K outcomes, and a head reads from the features which outcome it was:

    loss = NT-Xent(first view, second view) + sum over predicted transformations of
               weight * mean over images and outcomes k of  -log softmax(head(backbone(t_k(third view))))_k

With nothing predicted and nothing invariant this is `simclr`. Predicting only makes sense where images have an upright:
most photographs have one, satellite images have none, and among digits 0, 1 and 8 look alike after half a turn, and a
turned 6 is a 9.

Deviations: NT-Xent with 2B - 2 negatives and a temperature of 0.2 as in `simclr`; the CIFAR-10 code compares each view
with the B views on the other side at 0.5. The third view is made as the run's views are, at half their side as in that
code; `flip` is left out of it where flips are predicted, since their outcome could not be told, and changes that turn
it are refused where turns or `upside_down` are predicted. Of the transformations of the paper, jigsaws, blurs, grey and
swapped halves are missing, and `scale` is new. Heads have the run's widths (2048). The related method for point clouds
of LiDAR, with translation and flow between frames, is not built.

Shape legend: B batch, d features, z projection, K outcomes of a transformation.

Checked by: tests/stages/pretrain/methods/losses/test_equivariance_losses.py; docs/measurements/factors.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import Projector
from reprise.objectives.nt_xent import nt_xent
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import HiddenWidth, Layers, MethodParams, OutputWidth, Temperature
from stages.pretrain.parts.multi_crop import MULTIPLE
from stages.pretrain.views.settings import ViewSettings

Role = Literal["none", "invariant", "predicted"]
ZOOM = 2  # the larger of the two scales shows this fraction of the side


class ESSLParams(MethodParams):
    """Parameters of `essl`."""

    rotation: Annotated[
        Role, meaning("This says whether features ignore, predict or never see turns by 0, 90, 180 and 270 degrees.")
    ] = "predicted"
    flip: Annotated[
        Role, meaning("This says whether features ignore, predict or never see mirroring left to right.")
    ] = "none"
    upside_down: Annotated[
        Role, meaning("This says whether features ignore, predict or never see mirroring top to bottom.")
    ] = "none"
    scale: Annotated[
        Role,
        meaning(
            "This says whether features ignore, predict or never see an enlargement of the middle to twice its side."
        ),
    ] = "none"
    negative: Annotated[Role, meaning("This says whether features ignore, predict or never see inverted colours.")] = (
        "none"
    )
    weight: Annotated[
        float, Field(ge=0, le=100), meaning("Telling a predicted transformation has this weight in the loss.")
    ] = 0.4
    third_size: Annotated[
        float, Field(gt=0, le=1), meaning("The side of the third view is this share of the image's side.")
    ] = 0.5
    temperature: Temperature = 0.2
    hidden: HiddenWidth = 128
    output: OutputWidth = 64
    layers: Layers = 3


class Transformations:
    """The outcomes of every transformation, on normalised images (B, C, S, S); the first outcome changes nothing.

    Args:
        mean, std: of the normalisation, per channel, on the 0..1 scale.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.white = [(1.0 - 2.0 * m) / s for m, s in zip(mean, std, strict=True)]  # what a pixel and its negative make
        self.outcomes: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
            "rotation": (_same, *(lambda x, k=k: torch.rot90(x, k, (2, 3)) for k in (1, 2, 3))),
            "flip": (_same, lambda x: x.flip(3)),
            "upside_down": (_same, lambda x: x.flip(2)),
            "scale": (_same, enlarged),
            "negative": (_same, self.negative),
        }

    def negative(self, x: Tensor) -> Tensor:
        """Replace each pixel p on the 0..1 scale by 1 - p, in normalised units."""
        return x.new_tensor(self.white).view(1, -1, 1, 1) - x

    def all_of(self, name: str, x: Tensor) -> Tensor:
        """Show images in every outcome: (B, C, S, S) -> (K B, C, S, S), all images in the first outcome first."""
        return torch.cat([outcome(x) for outcome in self.outcomes[name]])

    def numbers(self, name: str, images: int, device: torch.device) -> Tensor:
        """Return the outcome of each image that `all_of` shows: (K B,) int64."""
        return torch.arange(len(self.outcomes[name]), device=device).repeat_interleave(images)

    def chosen(self, name: str, x: Tensor, which: Tensor) -> Tensor:
        """Show each image in its own outcome: (B, C, S, S), (B,) int64 -> (B, C, S, S)."""
        every = torch.stack([outcome(x) for outcome in self.outcomes[name]])
        return every[which, torch.arange(len(x), device=x.device)]


def _same(x: Tensor) -> Tensor:
    return x


def enlarged(x: Tensor) -> Tensor:
    """Enlarge the middle of images to their whole side."""
    side = x.shape[-1]
    part = max(1, side // ZOOM)
    start = (side - part) // 2
    middle = x[..., start : start + part, start : start + part]
    return F.interpolate(middle, size=side, mode="bilinear", align_corners=False)


@full_precision
def told_apart(logits: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean cross entropy of (K B, K) logits and (K B,) outcomes, and the share that is told."""
    return F.cross_entropy(logits, which), (logits.argmax(dim=1) == which).float().mean()


def head_of(width: int, hidden: int, outcomes: int) -> nn.Sequential:
    """Build a head that tells outcomes apart; it normalises each image by itself, as the authors' does."""
    layers: list[nn.Module] = []
    for entering in (width, hidden):
        layers += [nn.Linear(entering, hidden), nn.LayerNorm(hidden), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(hidden, outcomes))


class ESSL(Method):
    """SimCLR, and a head for each predicted transformation on the features of a third view."""

    Params = ESSLParams
    params: ESSLParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: ESSLParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])
        self.transformations = Transformations(context.mean, context.std)
        known = self.transformations.outcomes
        self.predicted, self.ignored = (
            [name for name in known if getattr(params, name) == role] for role in ("predicted", "invariant")
        )
        self.tell = nn.ModuleDict(
            {name: head_of(backbone.num_features, params.hidden, len(known[name])) for name in self.predicted}
        )

    @property
    def upright(self) -> tuple[int, ...]:
        """In the third view a turn would hide which outcome is shown; half a turn mirrors both ways."""
        return (2,) if {"rotation", "upside_down"} & set(self.predicted) else ()

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """Plan two views, and a smaller third one where something is predicted."""
        if not self.predicted:
            return [settings] * 2
        side = max(MULTIPLE, MULTIPLE * round(settings.size * self.params.third_size / MULTIPLE))
        third = replace(settings, size=min(side, settings.size))
        return [settings, settings, third.without("flip") if "flip" in self.predicted else third]

    def crops_of_an_image(self, settings: ViewSettings) -> int:
        """Count the third view once for each outcome."""
        return 2 + sum(len(self.transformations.outcomes[name]) for name in self.predicted)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare two views, which hide what is to be ignored, and tell the outcomes of the third one."""
        views = [self.at_random(view, batch) for view in batch.views[:2]]
        features_2Bd = embed_views(self.backbone, views)
        first_Bz, second_Bz = self.projector(features_2Bd).chunk(2)
        loss = nt_xent(first_Bz, second_Bz, self.params.temperature)
        figures = {"features": features_2Bd[: len(first_Bz)], "projections": first_Bz}
        for name in self.predicted:
            shown = self.transformations.all_of(name, batch.views[2])
            which = self.transformations.numbers(name, batch.images, shown.device)
            wrong, figures[f"told_{name}"] = told_apart(self.tell[name](self.backbone(shown)), which)
            loss = loss + self.params.weight * wrong
        return loss, figures

    def at_random(self, view: Tensor, batch: Batch) -> Tensor:
        """Put each image of a view into a random outcome of what is to be ignored; the step's seed draws them."""
        for name in self.ignored:
            which = torch.randint(len(self.transformations.outcomes[name]), (batch.images,))
            view = self.transformations.chosen(name, view, batch.own(which).to(view.device))
        return view
