"""How three papers change images, which many others took over; for the recipes of methods. Sizes of crops are theirs.

Each is a list of changes, as `train.views` takes one, so a recipe replaces all changes of `train`. One of probability 0
does not happen, and stands there for runs that set their own. Blur has a standard deviation of 0.1 to 2 pixels.
"""

from __future__ import annotations

from typing import Any

Listed = list[dict[str, Any]]


def with_options(views: Listed, **options: dict[str, Any]) -> Listed:
    """Return a list of changes some of which have other options: `with_options(SIMCLR, crop={"scale_min": 0.3})`.

    Raises:
        KeyError: there is no such change in the list.
    """
    if missing := set(options) - {change["name"] for change in views}:
        raise KeyError(f"the list has no change {sorted(missing)}")
    return [{**change, **options.get(change["name"], {})} for change in views]


# Chen et al. 2020 (SimCLR), appendix A: strength 1.
SIMCLR: Listed = [
    {"name": "crop", "scale_min": 0.08, "aspect": 4 / 3},
    {"name": "flip", "probability": 0.5},
    {"name": "colour", "probability": 0.8, "strength": 1.0, "saturation": 0.8, "hue": 0.2},
    {"name": "grey", "probability": 0.2},
    {"name": "blur", "probability": 0.5},
    {"name": "solarize", "probability": 0.0},
]

# Chen, Fan, Girshick, He 2020 (MoCo v2), section 3 and released code: half of SimCLR's strength, larger crops.
MOCO_V2 = with_options(SIMCLR, crop={"scale_min": 0.2}, colour={"strength": 0.5, "saturation": 0.4, "hue": 0.1})

# Grill et al. 2020 (BYOL), appendix B, table 6: the first branch is always blurred, the second seldom and solarised at
# times; brightness and contrast change by 0.4, saturation by 0.2, hue by 0.1.
BYOL = with_options(
    SIMCLR,
    colour={"strength": 0.5, "saturation": 0.2, "hue": 0.1},
    blur={"probability": [1.0, 0.1]},
    solarize={"probability": [0.0, 0.2]},
)
