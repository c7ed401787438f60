"""The protocol of a change: one of the random steps that turn an image into a view.

A change is one file in stages/pretrain/changes, or in plugins/changes of the user's project; its name is the file's.
Parameter files list changes as blocks, `{name: blur, probability: 0.5}`, whose further keys are the change's own.

What a change does is split in two. `draw` takes all random numbers on the CPU, so that a view has the same ones
wherever it is made. `changed` applies them to pixels, on any device, and draws nothing.

Shape legend: B images, n chosen ones among them, C channels, S side of a view in pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field

from reprise.config.params import Probability, StrictModel, meaning
from reprise.config.texts.text_forms import plug_in_name, wrong_value
from reprise.media.lookup import IMAGE

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Drawn = dict[str, "Tensor"]  # what was drawn for B images, by name; the first dimension of each tensor is B
MOST_VIEWS = 64  # that a list of probabilities tells apart


def _by_view(value: Any) -> Any:
    """Take a number or a list of them; say in one sentence what is wrong with anything else."""
    listed = isinstance(value, list | tuple)
    numbers = list(value) if listed else [value]
    fits = all(isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n <= 1 for n in numbers)
    if value is not None and not (fits and 1 <= len(numbers) <= MOST_VIEWS):
        raise wrong_value(
            f"must be a probability from 0 to 1, or a list of 1 to {MOST_VIEWS} of them, one for each view"
        )
    return tuple(map(float, value)) if listed else value


# One probability for all views of an image, or one for each view; the last one holds for all further views.
ByView = Annotated[
    Probability | Annotated[tuple[Probability, ...], Field(min_length=1, max_length=MOST_VIEWS)],
    BeforeValidator(_by_view),
]


class NamedChange(StrictModel):
    """A block of parameters that names a change."""

    name: Annotated[str, plug_in_name("changes"), meaning("Images are changed in this way.")]


class CutParams(NamedChange):
    """Base of the parameters of a cut, which every view has."""


class ChangeParams(NamedChange):
    """Base of every other change's parameters."""

    probability: Annotated[
        ByView,
        meaning("A view is changed with this probability; a list has one for each view, the last also for more."),
    ] = 1.0


@dataclass(frozen=True)
class Frame:
    """The images of which one view is made.

    Attributes:
        count: B.
        height, width: of the images in pixels; tensors (B,) where they differ.
        size: S, side of the view in pixels.
        channels: C.
        depth: of volumes, in slices; None of images.
    """

    count: int
    height: int | Tensor
    width: int | Tensor
    size: int
    channels: int
    depth: int | Tensor | None = None

    @property
    def sides(self) -> tuple[int | Tensor, ...]:
        """The sides of the samples in the order of their axes."""
        return (*(() if self.depth is None else (self.depth,)), self.height, self.width)


class Change(ABC):
    """Base of all changes.

    Two changes of one class with equal parameters are equal.

    Attributes:
        Params: the typed parameter class, a subclass of ChangeParams.
        modalities: the kinds of samples that can be changed; where `volume` is one of them, `changed` gets
            (n, C, S, S, S) of volumes, and other samples are refused.
        needs_rgb: the change is made of red, green and blue, so that other images are refused.
        keeps_places: no pixel moves, so a mask of the image is one of the changed image. A change that moves pixels
            defines `carried`; a method that reads masks is refused beside a change that says neither.
    """

    Params: ClassVar[type[NamedChange]] = ChangeParams
    modalities: ClassVar[tuple[str, ...]] = (IMAGE,)
    needs_rgb: ClassVar[bool] = False
    keeps_places: ClassVar[bool] = False

    def __init__(self, params: Any) -> None:
        self.params = params

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.params == other.params

    def __hash__(self) -> int:
        return hash((type(self), self.params.model_dump_json()))

    @property
    def turns(self) -> bool:
        """Whether images may be turned. Methods that learn from how images stand refuse it (`Method.upright`)."""
        return False

    @classmethod
    def says_what_masks_do(cls) -> bool:
        """Tell whether masks can follow: no pixel moves, or `carried` moves them. A cut does it by its boxes."""
        return cls.keeps_places or cls.carried is not Change.carried

    def of_view(self, number: int) -> Self:
        """Return the change as the view of this number makes it, counted from 0: with its own probability."""
        listed = getattr(self.params, "probability", None)
        if not isinstance(listed, tuple):
            return self
        own = listed[min(number, len(listed) - 1)]
        return type(self)(self.params.model_copy(update={"probability": own}))

    @property
    def chance(self) -> float:
        """The probability of the one view that the change is of; of the first one where it is of all."""
        stated = self.params.probability
        return float(stated[0] if isinstance(stated, tuple) else stated)

    def happens(self, frame: Frame) -> bool:
        """Tell whether the change can happen to these images; where it cannot, nothing is drawn."""
        return self.chance > 0

    def flags(self, count: int, rng: torch.Generator) -> Tensor:
        """Draw which of `count` images are changed, each with the change's probability: (B,) bool."""
        import torch

        return torch.rand(count, generator=rng) < self.chance

    @abstractmethod
    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw everything that is random.

        Args:
            frame: the images.
            rng: a CPU generator, the only source of random numbers.

        Returns:
            Tensors on the CPU, one row an image: `applied` (B,) bool tells which images are changed (see `flags`), and
            others hold angles, boxes, grids or whatever else was drawn, also for images that are not changed.
        """

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Apply what was drawn to the images that are changed; it may write over `x`.

        Args:
            x: (n, C, S, S) in [0, 1].
            drawn: their rows of what `draw` returned, without `applied`, on the device of `x`.

        Returns:
            (n, C, S, S) in [0, 1].
        """
        raise NotImplementedError(f"{type(self).__name__} has neither `changed` nor `apply`")

    def carried(self, masks: Tensor, drawn: Drawn) -> Tensor:
        """Move masks as the pixels of their images are moved; no value may arise that was not there.

        Args:
            masks: (n, M, S, S) of any values, of the images that are changed.
            drawn: their rows of what `draw` returned, without `applied`, on the CPU.

        Returns:
            (n, M, S, S).
        """
        raise NotImplementedError(f"{type(self).__name__} has neither `carried` nor `keeps_places`")

    def prepared(self, drawn: Drawn) -> Drawn:
        """Compute on the CPU what `apply` needs on the device, so that a GPU is never asked which images are chosen."""
        rows = drawn["applied"].nonzero()[:, 0]
        return {"rows": rows, **{name: value[rows] for name, value in drawn.items() if name != "applied"}}

    def apply(self, x: Tensor, ready: Drawn) -> Tensor:
        """Change a batch; it may write over `x`.

        Args:
            x: (B, C, S, S) in [0, 1].
            ready: what `prepared` returned, on the device of `x`.

        Returns:
            (B, C, S, S).
        """
        rows = ready["rows"]
        if not len(rows):
            return x
        own = {name: value for name, value in ready.items() if name != "rows"}
        return x.index_copy_(0, rows, self.changed(x[rows], own).to(x.dtype))

    def prepared_for_gpu(self, drawn: Drawn) -> Drawn:
        """Prepare for `apply_on_gpu`."""
        return self.prepared(drawn)

    def apply_on_gpu(self, x: Tensor, ready: Drawn) -> Tensor:
        """Do the same in the form that suits a GPU, where `apply` is slow there: few operations on all images."""
        return self.apply(x, ready)

    def outcomes(self, x: Tensor) -> Iterable[tuple[float, Tensor]] | None:
        """List what images may become where the change happens, each with its probability; they sum to 1.

        What varies continuously is listed at the nodes of a quadrature (`nodes`).

        Args:
            x: (n, C, S, S) in [0, 1]; it stays as it is.

        Returns:
            None where that cannot be listed.
        """
        return None

    def transform(self, frame: Frame) -> Any:
        """Build the albumentations transform that does the same to one (H, W, C) uint8 image.

        Returns:
            None where there is none: image by image, the batched form is then applied to batches of one.
        """
        return None

    def drawn_by(self, params: dict[str, Any], frame: Frame) -> dict[str, Any]:
        """Translate what that transform drew for one image into the form of `draw`, without `applied`.

        Args:
            params: as albumentations notes them; empty where the transform left the image as it was.
            frame: of the image, with B = 1.

        Returns:
            An array or number for each name.
        """
        raise NotImplementedError(f"{type(self).__name__} has a `transform` and no `drawn_by`")


class Cut(Change):
    """Base of the changes that choose which part of an image is seen. A cut stands first and happens in every view."""

    Params: ClassVar[type[NamedChange]] = CutParams

    def happens(self, frame: Frame) -> bool:
        """Tell that every view is cut out."""
        return True

    @abstractmethod
    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `boxes` (B, 4) float: top, left, height, width in pixels, all within the image.

        Of volumes (B, 6): the corner along each axis, then the lengths.
        """

    @classmethod
    def says_what_masks_do(cls) -> bool:
        """Tell that masks are cut by the boxes."""
        return True

    @property
    def smallest_area(self) -> float:
        """Share of an image's area, or of a volume, that the smallest box covers."""
        return 1.0


def nodes(low: float, high: float, count: int = 48) -> list[tuple[float, float]]:
    """Return weights and nodes of Gauss and Legendre's rule for a number that is uniform between two limits."""
    import numpy as np

    places, weights = np.polynomial.legendre.leggauss(count)
    middle, half = (low + high) / 2, (high - low) / 2
    return [(float(w) / 2, middle + half * float(p)) for w, p in zip(weights, places, strict=True)]
