"""`colour`: brightness, contrast, saturation and hue, changed in a random order.

Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020, appendix A: a strength s changes the first three by factors in [1 - 0.8 s, 1 + 0.8 s] and turns the hue by up
to 0.2 s of a circle, with probability 0.8. Each of the four may have a limit of its own, as BYOL's saturation has.

Checked by: tests/stages/pretrain/views/test_views.py; tests/stages/pretrain/views/test_view_parameters.py (against
colorsys, and the distribution of both forms).

Values are cut off at black and white after each of the four. Grey images, and those of other bands than RGB, have
neither saturation nor hue.

Shape legend: B images, K = 4 kinds (2 without RGB), C channels, S side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.change import ByView, Change, ChangeParams, Drawn, Frame, nodes
from stages.pretrain.parts.pixels.hue import turned_hue
from stages.pretrain.parts.pixels.luma import luma, luma_on_gpu
from stages.pretrain.parts.pixels.ready import kernels

PROBABILITY = 0.8
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # columns of `factor`
_SCALED, _LUMA, _LEVEL = range(3)  # what each turn mixes on a GPU: the pixel, its luma, the mean luma of the image
Share = Annotated[float, Field(ge=0, le=2)]


class ColourParams(ChangeParams):
    """Parameters of `colour`."""

    probability: Annotated[
        ByView, meaning("The colours of a view change with this probability; a list has one for each view.")
    ] = PROBABILITY
    strength: Annotated[Share, meaning("This is the strength s, for those of the four that have no limit here.")] = 1.0
    brightness: Annotated[Share | None, meaning("It changes by up to this share; null takes 0.8 s.")] = None
    contrast: Annotated[Share | None, meaning("It changes by up to this share; null takes 0.8 s.")] = None
    saturation: Annotated[Share | None, meaning("It changes by up to this share; null takes 0.8 s.")] = None
    hue: Annotated[
        Annotated[float, Field(ge=0, le=0.5)] | None,
        meaning("It turns by up to this share of a circle; null takes 0.2 s."),
    ] = None

    def limits(self, kind: str) -> tuple[float, float]:
        """Return the limits of the factor of `brightness`, `contrast` or `saturation`."""
        own = getattr(self, kind)
        change = 0.8 * self.strength if own is None else own
        return max(0.0, 1.0 - change), 1.0 + change

    @property
    def turn(self) -> float:
        """How far the hue turns at most, as a share of a circle."""
        return min(0.5, 0.2 * self.strength if self.hue is None else self.hue)


class Colour(Change):
    """SimCLR's distortion of colours."""

    Params = ColourParams
    keeps_places = True
    params: ColourParams

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `factor` (B, 4) of brightness, contrast and saturation, and turns of the hue; `order` (B, K).

        `order` says which of the four comes first, second and so on.
        """
        count, limits = frame.count, self.params.limits("brightness")
        kinds = 4 if frame.channels == 3 else 2
        factor = torch.empty(count, 4).uniform_(*limits, generator=rng)
        for kind, name in ((CONTRAST, "contrast"), (SATURATION, "saturation")):
            own = self.params.limits(name)
            if own != limits:  # the same draws, at their own limits
                share = (factor[:, kind] - limits[0]) / (limits[1] - limits[0]) if limits[1] > limits[0] else 0.5
                factor[:, kind] = own[0] + share * (own[1] - own[0])
        turn = self.params.turn
        factor[:, HUE] = torch.empty(count).uniform_(-turn, turn, generator=rng)
        order = torch.rand(count, kinds, generator=rng).argsort(1)
        return {"factor": factor, "order": order, "applied": self.flags(count, rng)}

    def prepared(self, drawn: Drawn) -> Drawn:
        """Sort the images by what happens to them in each turn."""
        kinds, ready = drawn["order"].shape[1], {}
        for turn in range(kinds):
            for kind in range(kinds):
                rows = _chosen(drawn, turn, kind)
                if len(rows):
                    ready[f"rows_{turn}_{kind}"] = rows
                    ready[f"amount_{turn}_{kind}"] = drawn["factor"][rows, kind]
        return ready

    def apply(self, x: Tensor, ready: Drawn) -> Tensor:
        """Change each image by one of the four after the other, in place."""
        for turn in range(4):
            for kind, change in enumerate(_CHANGES):
                rows = ready.get(f"rows_{turn}_{kind}")
                if rows is not None:
                    amount = ready[f"amount_{turn}_{kind}"].view(-1, 1, 1, 1)
                    x.index_copy_(0, rows, change(x[rows], amount).clamp_(0.0, 1.0))
        return x

    def prepared_for_gpu(self, drawn: Drawn) -> Drawn:
        """Keep what was drawn for the kernel; without it write three of the four as one mixture: `mix` (B, turns, 3).

        It says what each image becomes in each turn: this times itself, its luma, its mean luma.
        """
        if drawn["order"].shape[1] == len(_CHANGES) and kernels() is not None:
            return drawn
        order, factor = drawn["order"].T, drawn["factor"]  # (turns, B)
        applied = drawn["applied"]
        amount = factor.gather(1, order.T).T  # of the change that an image meets in each turn
        mix = torch.zeros(len(order), 3, len(factor))
        mix[:, _SCALED] = torch.where(applied & (order != HUE), amount, 1.0)
        mix[:, _LUMA] = torch.where(applied & (order == SATURATION), 1.0 - amount, 0.0)
        mix[:, _LEVEL] = torch.where(applied & (order == CONTRAST), 1.0 - amount, 0.0)
        ready = {"mix": mix}
        for turn in range(len(order)) if len(order) == 4 else ():
            rows = _chosen(drawn, turn, HUE)
            ready[f"rows_{turn}"], ready[f"turns_{turn}"] = rows, factor[rows, HUE]
        return ready

    def apply_on_gpu(self, x: Tensor, ready: Drawn) -> Tensor:
        """Call the kernel, or let one formula stand for three of the four, with numbers of each image's own."""
        if "order" in ready:
            kernel = kernels() if x.is_cuda else None
            return self.apply(x, self.prepared(ready)) if kernel is None else kernel.recolour(x, **ready)
        for turn, mix in enumerate(ready["mix"].to(x.dtype)):
            x = _mixed(x, mix)
            rows = ready.get(f"rows_{turn}")
            if rows is not None and len(rows):
                turns = ready[f"turns_{turn}"].to(x.dtype).view(-1, 1, 1, 1)
                x.index_copy_(0, rows, turned_hue(x[rows], turns).clamp_(0.0, 1.0))
        return x

    def outcomes(self, x: Tensor) -> list[tuple[float, Tensor]] | None:
        """Yield brighter and darker images where nothing but the brightness changes, so that no order is drawn."""
        others = [self.params.limits(name) for name in ("contrast", "saturation")]
        if others != [(1.0, 1.0)] * 2 or self.params.turn:
            return None
        limits = nodes(*self.params.limits("brightness"))
        return [(share, (x * factor).clamp(0.0, 1.0)) for share, factor in limits]

    def transform(self, frame: Frame) -> Any:
        """Take albumentations' own; it knows grey and RGB only, so other bands have a step of ours."""
        import albumentations as A

        from stages.pretrain.parts.pixels.band_jitter import band_jitter

        spans = [self.params.limits(name) for name in ("brightness", "contrast", "saturation")]
        turn = self.params.turn
        hue = (-turn, turn)
        if frame.channels not in (1, 3):
            return band_jitter(spans[0], spans[1], self.chance)
        if frame.channels != 3:
            spans[2], hue = (1.0, 1.0), (0.0, 0.0)
        return A.ColorJitter(*spans, hue, p=self.chance)

    def drawn_by(self, params: dict[str, Any], frame: Frame) -> dict[str, Any]:
        """Gather the four factors, and their order."""
        kinds = 4 if frame.channels == 3 else 2
        if not params:
            return {"factor": [1.0, 1.0, 1.0, 0.0], "order": list(range(kinds))}
        if "factors" in params:
            order = [BRIGHTNESS, CONTRAST] if params["bright_first"] else [CONTRAST, BRIGHTNESS]
            return {"factor": [*params["factors"], 1.0, 0.0], "order": order}
        factor = [float(params[name]) for name in ("brightness", "contrast", "saturation", "hue")]
        return {"factor": factor, "order": [int(kind) for kind in params["order"] if kind < kinds]}


def _chosen(drawn: Drawn, turn: int, kind: int) -> Tensor:
    """Return the images whose change number `turn` is of this kind: positions, int64."""
    return torch.nonzero(drawn["applied"] & (drawn["order"][:, turn] == kind))[:, 0]


# Each change works in place on a copy of its images: fresh memory for every term costs more than the arithmetic.
def _brightness(x: Tensor, factor: Tensor) -> Tensor:
    return x.mul_(factor)


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    mean = luma(x).mean(dim=(2, 3), keepdim=True)
    return x.sub_(mean).mul_(factor).add_(mean)


def _saturation(x: Tensor, factor: Tensor) -> Tensor:
    grey = luma(x)
    return x.sub_(grey).mul_(factor).add_(grey)


_CHANGES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (_brightness, _contrast, _saturation, turned_hue)


def _mixed(x: Tensor, mix: Tensor) -> Tensor:
    """Let each image become its mixture of itself, its luma and its mean luma, within [0, 1]."""
    scaled, coloured, levelled = (row.view(-1, 1, 1, 1) for row in mix)
    grey = luma_on_gpu(x)
    level = grey.mean(dim=(2, 3), keepdim=True, dtype=torch.float32).to(x.dtype)
    return torch.addcmul(torch.addcmul(levelled * level, grey, coloured), x, scaled).clamp_(0.0, 1.0)
