"""The short settings of views, as a list of changes and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reprise.training.change import Change
from reprise.training.views import STANDARD, change_named

ASPECT = 4 / 3
# What stands for null where sources suggest nothing.
NUMBERS: dict[str, Any] = {"crop_aspect": ASPECT, "saturation": None, "hue": None}
FLIP = 0.5
# Short settings of which an image is only cropped.
_OFF: dict[str, Any] = {"flip": False, "jitter": 0.0, "grey": 0.0, "blur": 0.0, "solarize": 0.0}


def standard_changes(numbers: Mapping[str, Any]) -> tuple[Change, ...]:
    """Build the changes that short settings stand for, without those that are switched off.

    Args:
        numbers: a value for each short setting; `crop_scale_max` may stand beside them. None for those in `NUMBERS`.
    """
    numbers = {**_OFF, **NUMBERS, "crop_scale_max": 1.0, **numbers}
    aspect = ASPECT if numbers["crop_aspect"] is None else numbers["crop_aspect"]
    crop = {"scale_min": numbers["crop_scale_min"], "scale_max": numbers["crop_scale_max"], "aspect": aspect}
    colour = {"strength": numbers["jitter"], "saturation": numbers["saturation"], "hue": numbers["hue"]}
    blocks: dict[str, dict[str, Any]] = {"crop": crop}
    if numbers["flip"]:
        blocks["flip"] = {"probability": FLIP}
    if numbers["jitter"]:
        blocks["colour"] = colour
    for name in ("grey", "blur", "solarize"):
        if ever(numbers[name]):
            blocks[name] = {"probability": numbers[name]}
    return tuple(change_named(name, **block) for name, block in blocks.items())


def numbers_of(changes: tuple[Change, ...]) -> tuple[dict[str, Any] | None, tuple[Change, ...]]:
    """Find the short settings that a list of changes begins with, and the changes after them.

    Returns:
        A value for each short setting, and what stands in `also`; (None, ()) where short settings cannot say the same.
    """
    standard = tuple(change for change in changes if change.params.name in STANDARD)
    further = changes[len(standard) :]
    params = {change.params.name: change.params for change in standard}
    if changes[: len(standard)] != standard or "crop" not in params:
        return None, ()
    crop, colour = params["crop"], params.get("colour")
    numbers = {
        "crop_scale_min": crop.scale_min,
        "crop_scale_max": crop.scale_max,
        "crop_aspect": crop.aspect,
        "flip": "flip" in params,
        "jitter": colour.strength if colour else 0.0,
        "saturation": colour.saturation if colour else None,
        "hue": colour.hue if colour else None,
        **{name: params[name].probability if name in params else 0.0 for name in ("grey", "blur", "solarize")},
    }
    happening = tuple(change for change in standard if ever(getattr(change.params, "probability", 1.0)))
    return (numbers, further) if standard_changes(numbers) == happening else (None, ())


def ever(probability: Any) -> bool:
    """Tell whether a change of this probability, or of these of each view, happens at all."""
    return any(probability) if isinstance(probability, list | tuple) else bool(probability)
