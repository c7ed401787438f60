"""The numbers of a view, resolved: the user's choice where there is one, else the value that suits the source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reprise.config.params import ImageParams
    from reprise.training.params import ViewParams

RATIO = (3 / 4, 4 / 3)  # aspect of crops (SimCLR, appendix A)
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
        jitter: strength s of SimCLR's colour distortion; brightness, contrast and saturation change by factors in
            [1 - 0.8 s, 1 + 0.8 s], hue by [-0.2 s, 0.2 s] turns, in random order, with probability 0.8. Other bands
            than RGB have neither saturation nor hue.
        grey, blur, solarize: probabilities; grey is made of RGB only.
        mean, std: per channel, on the 0..1 scale.
    """

    size: int
    channels: int
    crop_scale_min: float
    flip: bool
    jitter: float
    grey: float
    blur: float
    solarize: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_scale_max: float = 1.0

    @property
    def blur_kernel(self) -> int:
        """Side of the blur kernel in pixels: about a tenth of the image, odd, at least 3 (SimCLR, appendix A)."""
        return max(3, self.size // 10 | 1)


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
    values = {}
    for name in ViewParams.model_fields:
        value = getattr(params, name)
        if value is None and name not in defaults:
            raise ManifestError(
                f"the suggested views lack '{name}'",
                where=suggested,
                found=", ".join(sorted(defaults)),
                fix="Run `dvc repro ingest` to write it again.",
            )
        values[name] = defaults[name] if value is None else value
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
