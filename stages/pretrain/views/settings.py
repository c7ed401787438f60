"""The numbers of a view, resolved: the user's choice where there is one, else the value that suits the source."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprise.config.params import ImageParams
    from reprise.training.params import ViewParams

ASPECT = 4 / 3  # of crops, and its inverse (SimCLR, appendix A)
JITTER_PROBABILITY = 0.8
BLUR_SIGMA = (0.1, 2.0)


@dataclass(frozen=True)
class ViewSettings:
    """All numbers of one view.

    Attributes:
        size: side of the output in pixels.
        channels: bands of the input.
        crop_scale_min, crop_scale_max: smallest and largest crop, as shares of the image's area.
        flip: mirror with probability 0.5.
        jitter: strength s of SimCLR's colour distortion; brightness and contrast change by factors in
            [1 - 0.8 s, 1 + 0.8 s], in random order with saturation and hue, with probability 0.8; 0 switches all off.
            Other bands than RGB have neither saturation nor hue.
        grey: a probability; it is made of RGB only.
        blur, solarize: a probability for all views of an image, or one for each view; the last holds for further ones.
        mean, std: per channel, on the 0..1 scale.
        saturation: its factor lies in [1 - this, 1 + this]; None takes 0.8 s.
        hue: it turns by up to this share of a circle; None takes 0.2 s.
        crop_aspect: crops are at most this many times as wide as high, or as high as wide.
    """

    size: int
    channels: int
    crop_scale_min: float
    flip: bool
    jitter: float
    grey: float
    blur: float | tuple[float, ...]
    solarize: float | tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_scale_max: float = 1.0
    saturation: float | None = None
    hue: float | None = None
    crop_aspect: float = ASPECT

    @property
    def blur_kernel(self) -> int:
        """Side of the blur kernel in pixels: about a tenth of the image, odd, at least 3 (SimCLR, appendix A)."""
        return max(3, self.size // 10 | 1)

    @property
    def ratio(self) -> tuple[float, float]:
        """Limits of a crop's width divided by its height."""
        return 1.0 / self.crop_aspect, self.crop_aspect

    @property
    def factors(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Limits of the factors of brightness and contrast, and of saturation."""
        change = 0.8 * self.jitter
        saturation = change if self.saturation is None else self.saturation
        return (max(0.0, 1.0 - change), 1.0 + change), (max(0.0, 1.0 - saturation), 1.0 + saturation)

    @property
    def turn(self) -> float:
        """How far the hue turns at most, as a share of a circle."""
        return min(0.5, 0.2 * self.jitter if self.hue is None else self.hue)

    @property
    def blur_probability(self) -> float:
        """Of the one view that these settings are of."""
        return _of_view(self.blur, 0)

    @property
    def solarize_probability(self) -> float:
        """Of the one view that these settings are of."""
        return _of_view(self.solarize, 0)

    def of_view(self, number: int) -> ViewSettings:
        """Return the settings of one view of an image, counted from 0: its own probabilities of blur and solarizing."""
        return replace(self, blur=_of_view(self.blur, number), solarize=_of_view(self.solarize, number))


def by_view(plan: list[ViewSettings]) -> list[ViewSettings]:
    """Give every view of a plan its own probabilities."""
    return [settings.of_view(number) for number, settings in enumerate(plan)]


def needed_side(plan: list[ViewSettings]) -> int:
    """Return the shorter side, in pixels, of an image whose smallest crop is as large as the view that is made of it.

    A crop of a share s of the area has sqrt(s) of the side. More pixels than that add nothing that a view could show.
    """
    return max(math.ceil(settings.size / math.sqrt(settings.crop_scale_min)) for settings in plan)


def described(plan: list[ViewSettings]) -> list[dict[str, Any]]:
    """Describe a plan for config.json: one entry for each run of equal views, with every number resolved."""
    return [
        {
            "views": len(list(equal)),
            **{name: value for name, value in asdict(settings).items() if name not in ("mean", "std")},
            "saturation": settings.factors[1][1] - 1.0,
            "hue": settings.turn,
        }
        for settings, equal in groupby(by_view(plan))
    ]


def _of_view(probability: float | tuple[float, ...], number: int) -> float:
    return probability[min(number, len(probability) - 1)] if isinstance(probability, tuple) else probability


def resolve_views(
    params: ViewParams, suggested: Path, image: ImageParams, mean: tuple[float, ...], std: tuple[float, ...]
) -> ViewSettings:
    """Fill the values that the user left open with the source's suggestions.

    Args:
        params: the user's choices.
        suggested: the file of suggestions, data/ingest/views.json.
        image: size and channels of the input.
        mean, std: per channel, on the 0..1 scale.

    Raises:
        ManifestError: the suggestions lack a value that the user left open.
        TrainingError: grey views of images with other bands than RGB are asked for.
    """
    from reprise.artifacts.results import read_json
    from reprise.config.errors import ManifestError, TrainingError
    from reprise.training.params import ViewParams

    defaults = read_json(suggested, fix="Run `dvc repro ingest` to write it again.")
    values: dict[str, Any] = {}
    derived = {"crop_aspect": ASPECT, "saturation": None, "hue": None}  # sources do not suggest them
    for name in ViewParams.model_fields:
        value = getattr(params, name)
        if value is None and name in derived:
            values[name] = derived[name]
            continue
        if value is None and name not in defaults:
            raise ManifestError(
                f"the suggested views lack '{name}'",
                where=suggested,
                found=", ".join(sorted(defaults)),
                fix="Run `dvc repro ingest` to write it again.",
            )
        value = defaults[name] if value is None else value
        values[name] = tuple(value) if isinstance(value, list) else value
    if image.channels not in (1, 3):
        if params.grey:
            raise TrainingError(
                "views in grey are made of red, green and blue",
                where="train.views.grey",
                found=f"{params.grey:g}, image.channels {image.channels}",
                fix="Set it to 0 or null.",
            )
        values["grey"] = 0.0  # the source's suggestion is meant for RGB
    return ViewSettings(size=image.size, channels=image.channels, mean=mean, std=std, **values)
