"""Eighteen transformations of an object before it is laid on a background, in three families.

A picture is made in a fixed order, whatever is chosen: the geometric family and `elastic` decide which point of the
object each pixel shows, so that it is sampled once; then colours change; then the corruptions follow. Every
transformation draws from a generator of its own: which others are chosen changes nothing about it.

Legend: images `rgb_SS3` in [0, 1] beside their opacity `alpha_SS` in [0, 1]; S is the side in pixels. Lengths are
shares of the side.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from stages.ingest.drawn.objects import Object

if TYPE_CHECKING:
    import numpy as np

Name = Literal[
    "translate", "rotate", "scale", "v_flip", "h_flip", "shear",
    "hue", "brightness", "grayscale", "posterize", "invert", "sharpen",
    "blur", "noise", "pixelate", "elastic", "erasing", "contrast",
]  # fmt: skip
Family = Literal["geometric", "photometric", "corruption"]
NAMES: tuple[Name, ...] = get_args(Name)
FAMILIES: dict[str, tuple[Name, ...]] = {
    "geometric": NAMES[:6], "photometric": NAMES[6:12], "corruption": NAMES[12:],
}  # fmt: skip
RADIUS = 0.32  # of an object that is not scaled; the reference's objects are cut-outs of many sizes
_SHEAR = 30.0  # degrees at full strength; at the reference's 50, objects leave the picture
_SAMPLES = 3  # a pixel is the mean of so many times so many points
_RATE = 0.5  # transformations that either happen or not do so in this share of pictures
_NOISE = 0.5  # standard deviation at full strength
_ERASED = 14 / 32  # of the side, as in the reference
_PIXELATED = 0.3  # of the side remains
_BLUR = (0.1 / 32, 1.5 / 32)  # the reference's sigmas, for pictures of 32 pixels
_RIPPLE = 0.12  # amplitude of an elastic field
_LEVELS = 1  # steps of each channel of a posterized object: on or off, one bit

FLIPS: tuple[Name, ...] = ("v_flip", "h_flip")
EVENTS: tuple[Name, ...] = (
    "grayscale", "posterize", "invert", "sharpen", "noise", "pixelate", "elastic", "erasing",
)  # fmt: skip
FLAGS = (*FLIPS, *EVENTS)  # these happen or not; all others draw numbers
RANGES: dict[str, tuple[float, float, float]] = {  # parameter -> least, greatest, and the value that changes nothing
    "translate_x": (-1.0, 1.0, 0.0), "translate_y": (-1.0, 1.0, 0.0),  # of the room that the object has
    "rotate": (-180.0, 180.0, 0.0), "scale": (0.4, 1.0, 1.0),
    "shear_x": (-_SHEAR, _SHEAR, 0.0), "shear_y": (-_SHEAR, _SHEAR, 0.0),
    "hue": (-180.0, 180.0, 0.0), "brightness": (0.0, 2.0, 1.0), "contrast": (0.0, 2.0, 1.0), "blur": (*_BLUR, 0.0),
}  # fmt: skip

Values = dict[str, float]
Image = tuple["np.ndarray", "np.ndarray"]


def parameters_of(name: Name) -> tuple[str, ...]:
    """Return the names of what a transformation draws."""
    return (f"{name}_x", f"{name}_y") if name in ("translate", "shear") else (name,)


def expand(chosen: Sequence[Name | Family]) -> tuple[Name, ...]:
    """Return the names behind names and families, each once, in the order in which they are applied."""
    named: set[str] = set()
    for entry in chosen:
        named.update(FAMILIES.get(entry) or (entry,))
    return tuple(name for name in NAMES if name in named)


def draw_values(
    chosen: Sequence[Name], generator: Callable[[int], np.random.Generator], strengths: Mapping[str, float]
) -> tuple[Values, dict[Name, np.random.Generator]]:
    """Draw the parameters of all chosen transformations.

    Args:
        chosen: names.
        generator: makes the generator of a transformation from its number in NAMES.
        strengths: from 0 to 1, by which a range shrinks towards what changes nothing; 1 where none is given.

    Returns:
        Name of the parameter -> value, and the generators, for what a transformation draws for each pixel.
    """
    rngs = {name: generator(NAMES.index(name)) for name in chosen}
    values: Values = {}
    for name, rng in rngs.items():
        strength = strengths.get(name, 1.0)
        if name in FLAGS:  # there is no weak flip: the strength makes it rarer
            values[name] = float(rng.random() < _RATE * (strength if name in FLIPS else 1.0))
            continue
        for parameter in parameters_of(name):
            low, high, still = RANGES[parameter]
            values[parameter] = still + strength * (float(rng.uniform(low, high)) - still)
    return {name: round(value, 6) for name, value in values.items()}, rngs


def render(
    drawn: Object,
    size: int,
    values: Mapping[str, float],
    rngs: Mapping[Name, np.random.Generator],
    strengths: Mapping[str, float],
) -> Image:
    """Paint an object with all of its transformations: its colours, and its opacity."""
    import numpy as np

    u, v = points_of_the_object(size * _SAMPLES, values, rngs, strengths)
    colour, inside = drawn.paint(u, v)
    alpha = _averaged(inside[:, :, None].astype(float), size)[:, :, 0]
    rgb = _averaged(colour * inside[:, :, None], size) / np.maximum(alpha, 1e-9)[:, :, None]
    rgb = change_colours(rgb, alpha, values, strengths)
    return corrupt(np.clip(rgb, 0, 1), alpha, values, rngs, strengths)


def points_of_the_object(
    side: int, values: Mapping[str, float], rngs: Mapping[Name, np.random.Generator], strengths: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return which point of the object, (side, side) each of u and v, every point of the picture shows."""
    import numpy as np

    place = (np.arange(side) + 0.5) / side - 0.5
    x, y = np.meshgrid(place, -place)  # upwards, as v
    if values.get("elastic"):
        x, y = _rippled(x, y, rngs["elastic"], _RIPPLE * strengths.get("elastic", 1.0))
    scale = RADIUS * values.get("scale", 1.0)
    room = 0.5 - scale
    x = x - room * values.get("translate_x", 0.0)
    y = y + room * values.get("translate_y", 0.0)  # facts count downwards
    angle = math.radians(values.get("rotate", 0.0))
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shear_x, shear_y = (math.tan(math.radians(values.get(name, 0.0))) for name in ("shear_x", "shear_y"))
    sheared = np.array([[1.0, 0.0], [shear_y, 1.0]]) @ np.array([[1.0, shear_x], [0.0, 1.0]])
    mirrored = np.diag([-1.0 if values.get("h_flip") else 1.0, -1.0 if values.get("v_flip") else 1.0])
    back = np.linalg.inv(turned @ sheared @ mirrored) / scale
    return back[0, 0] * x + back[0, 1] * y, back[1, 0] * x + back[1, 1] * y


def change_colours(
    rgb_SS3: np.ndarray, alpha_SS: np.ndarray, values: Mapping[str, float], strengths: Mapping[str, float]
) -> np.ndarray:
    """Apply the photometric family, and `contrast`, to an object's colours."""
    import numpy as np

    rgb = rgb_SS3
    if values.get("hue"):
        rgb = _hue_turned(rgb, values["hue"])
    rgb = np.clip(rgb * values.get("brightness", 1.0), 0, 1)
    mean = float((rgb.mean(axis=2) * alpha_SS).sum() / max(alpha_SS.sum(), 1e-9))
    rgb = np.clip(mean + values.get("contrast", 1.0) * (rgb - mean), 0, 1)
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "grayscale": lambda image: np.repeat((image @ np.array([0.299, 0.587, 0.114]))[:, :, None], 3, axis=2),
        "posterize": lambda image: np.floor(np.minimum(image * (_LEVELS + 1), _LEVELS)) / _LEVELS,
        "invert": lambda image: 1 - image,
        "sharpen": lambda image: image + 6 * (image - _blurred(image, 0.03)),
    }
    for name, change in changes.items():
        if values.get(name):
            rgb = np.clip(rgb + strengths.get(name, 1.0) * (change(rgb) - rgb), 0, 1)
    return rgb


def corrupt(
    rgb_SS3: np.ndarray,
    alpha_SS: np.ndarray,
    values: Mapping[str, float],
    rngs: Mapping[Name, np.random.Generator],
    strengths: Mapping[str, float],
) -> Image:
    """Apply blur, noise, pixelate and erasing to an object and its opacity."""
    import numpy as np

    rgb, alpha, size = rgb_SS3, alpha_SS, len(alpha_SS)
    if values.get("blur"):
        rgb, alpha = _with_opacity(rgb, alpha, lambda image: _blurred(image, values["blur"]))
    if values.get("noise"):
        rgb = np.clip(rgb + strengths.get("noise", 1.0) * _NOISE * rngs["noise"].normal(size=rgb.shape), 0, 1)
    if values.get("pixelate"):
        kept = max(1, round(size * (1 - strengths.get("pixelate", 1.0) * (1 - _PIXELATED))))
        rgb, alpha = _with_opacity(rgb, alpha, lambda image: _pixelated(image, kept))
    if values.get("erasing"):
        side = round(size * _ERASED * strengths.get("erasing", 1.0))
        top, left = rngs["erasing"].integers(0, size - side + 1, 2)
        alpha = alpha.copy()
        alpha[top : top + side, left : left + side] = 0.0
    return rgb, alpha


def _with_opacity(rgb: np.ndarray, alpha: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> Image:
    """Change colours and opacity alike; what cannot be seen gives no colour to what can."""
    import numpy as np

    both = change(np.concatenate([rgb * alpha[:, :, None], alpha[:, :, None]], axis=2))
    return both[:, :, :3] / np.maximum(both[:, :, 3:], 1e-9), both[:, :, 3]


def _averaged(samples: np.ndarray, size: int) -> np.ndarray:
    """Average (S n, S n, c) samples over the n x n of each pixel."""
    import numpy as np

    n = len(samples) // size
    return np.asarray(samples.reshape(size, n, size, n, -1).mean(axis=(1, 3)))


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur with a Gaussian of this share of the side; nothing lies outside of the picture."""
    import numpy as np

    size = len(image)
    steps = np.arange(size)
    kernel = np.exp(-0.5 * ((steps[:, None] - steps[None, :]) / (sigma * size)) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("ij,kl,jlc->ikc", kernel, kernel, image, optimize=True))


def _pixelated(image: np.ndarray, kept: int) -> np.ndarray:
    """Average over `kept` times `kept` cells, and show each as one colour."""
    import numpy as np

    size = len(image)
    cell = np.arange(size) * kept // size
    member = (cell[None, :] == np.arange(kept)[:, None]).astype(float)
    mean = member / member.sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("ij,kl,jlc->ikc", mean, mean, image, optimize=True)[cell][:, cell])


def _rippled(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Move points by a smooth random field."""
    import numpy as np

    moved = []
    for axis in (x, y):
        frequencies, phases = rng.normal(0, 2.0, (3, 2)), rng.uniform(0, 2 * math.pi, 3)
        waves = [
            np.sin(2 * math.pi * (f[0] * x + f[1] * y) + phase) for f, phase in zip(frequencies, phases, strict=True)
        ]
        moved.append(axis + height / 3 * np.sum(waves, axis=0))
    return moved[0], moved[1]


def _hue_turned(rgb: np.ndarray, degrees: float) -> np.ndarray:
    """Turn the hue of every colour; an object has few colours, so each is turned once."""
    import numpy as np

    colours, where = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    turned = []
    for colour in np.clip(colours, 0, 1):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour.tolist())
        turned.append(colorsys.hsv_to_rgb((hue + degrees / 360) % 1.0, saturation, value))
    return np.array(turned)[where.reshape(-1)].reshape(rgb.shape)
