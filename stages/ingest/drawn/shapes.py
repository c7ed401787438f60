"""Draw one shape on a background, in a colour, a texture and a light, and say in words what the picture shows.

Legend: `u`, `v` to the right and upwards in the shape's own axes, in which its farthest point is 1 away from the
centre; lengths in a picture are shares of its side.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

SHAPES = ("arrow", "cross", "ellipse", "square", "triangle")
TEXTURES = ("plain", "striped", "checked", "dotted", "ringed")
COLOURS = {
    "red": (214, 48, 49), "green": (46, 160, 67), "blue": (45, 90, 210), "yellow": (240, 200, 40),
    "purple": (140, 70, 180), "cyan": (50, 190, 200), "white": (240, 240, 240), "black": (30, 30, 30),
}  # fmt: skip
HUELESS = ("white", "black")  # no turn of the hue changes them
NOISE = 6.0  # standard deviation, of 255
_GREY = 128.0  # of all three channels: what a colour that cannot be seen fades to; no colour of ours is near it
_SAMPLES = 4  # a pixel is the mean of so many times so many points
_CONTRAST = 0.6  # the pattern of a texture lies so far from the colour, on the way to black or white
_FALL = 0.8  # a light makes so large a share of difference from one side of the picture to the other


class Drawn(NamedTuple):
    """What one picture shows; the place is that of the shape's centre, and all lengths are shares of the side."""

    shape: str
    colour: str
    background: str
    x: float
    y: float
    scale: float
    rotation: float  # degrees, counter-clockwise
    texture: str = "plain"
    hue: float = 0.0  # degrees by which the colour is turned around the colour wheel
    light: float | None = None  # degrees from above, counter-clockwise; None: the light is the same everywhere
    brightness: float = 1.0  # factor of all values


def draw(
    drawn: Drawn,
    size: int,
    rng: np.random.Generator,
    availability: Mapping[str, float] | None = None,
    noise: float = NOISE,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one picture.

    Args:
        drawn: what it shows.
        size: side in pixels.
        rng: draws the background's gradient and the noise.
        availability: how much of the shape, colour, background, texture or light is seen, from 0 (nothing) to 1; what
            is missing is seen fully.
        noise: standard deviation of the noise, of 255.

    Returns:
        (size, size, 3) uint8, and the mask, (size, size) uint8 of 0 and 1.
    """
    import numpy as np

    seen = dict(availability or {})
    points = (np.arange(size * _SAMPLES) + 0.5) / (size * _SAMPLES)
    x, y = (points - drawn.x)[None, :] / drawn.scale, (drawn.y - points)[:, None] / drawn.scale
    cosine, sine = direction(drawn.rotation)
    u, v = cosine * x + sine * y, cosine * y - sine * x
    within = inside(drawn.shape, u, v)
    covered = _mean_of_samples(within, size)
    place = (np.arange(size) + 0.5) / size - 0.5
    slope = rng.uniform(-60, 60, size=2)
    gradient = (slope[0] * place[None, :] + slope[1] * place[:, None])[:, :, None]
    ground = _faded(np.array(COLOURS[drawn.background]), seen.get("background", 1.0)) + gradient
    colour = _faded(_turned(COLOURS[drawn.colour], drawn.hue), seen.get("colour", 1.0))
    opaque = covered[:, :, None] * seen.get("shape", 1.0)
    pixels = ground + opaque * (colour - ground)
    if drawn.texture != "plain":
        strength = _mean_of_samples(within & pattern(drawn.texture, u, v), size)[:, :, None]
        pixels = pixels + strength * seen.get("shape", 1.0) * seen.get("texture", 1.0) * (_accent(colour) - colour)
    if drawn.light is not None:
        pixels = pixels * lighting(drawn, size, seen.get("light", 1.0))[:, :, None]
    pixels = pixels + rng.normal(0, noise, size=(size, size, 3))
    return np.clip(np.floor(pixels + 0.5), 0, 255).astype(np.uint8), (covered >= 0.5).astype(np.uint8)


def inside(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Tell which points lie in a shape whose farthest point from the centre is at most 1 away.

    Args:
        shape: one of SHAPES.
        u, v: to the right and upwards, of one shape.
    """
    import numpy as np

    if shape == "ellipse":
        return np.asarray(u**2 + (v / 0.55) ** 2 <= 1)
    if shape == "square":
        return np.asarray(np.maximum(np.abs(u), np.abs(v)) <= math.sqrt(0.5))
    if shape == "triangle":
        return np.asarray((v >= -0.5) & (v + math.sqrt(3) * np.abs(u) <= 1))
    if shape == "cross":
        short, long = np.minimum(np.abs(u), np.abs(v)), np.maximum(np.abs(u), np.abs(v))
        return np.asarray((short <= 0.28) & (long <= 0.95))
    head = (v >= 0) & (v + 1.2 * np.abs(u) <= 0.95)
    return np.asarray(head | ((np.abs(u) <= 0.25) & (v >= -0.9) & (v <= 0)))


def pattern(texture: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Tell which points have the second tone of a texture: stripes, checks, dots or rings, fixed to the shape.

    Args:
        texture: one of TEXTURES; `plain` has no second tone.
        u, v: to the right and upwards, of one shape; arrays of one form.
    """
    import numpy as np

    if texture == "striped":
        return np.asarray(np.sin(2 * math.pi * v / 0.6) > 0)
    if texture == "checked":
        return np.asarray(np.sin(2 * math.pi * u / 0.9) * np.sin(2 * math.pi * v / 0.9) > 0)
    if texture == "dotted":
        return np.asarray((u - 0.5 * np.rint(u / 0.5)) ** 2 + (v - 0.5 * np.rint(v / 0.5)) ** 2 <= 0.16**2)
    if texture == "ringed":
        return np.asarray(np.sin(2 * math.pi * np.sqrt(u**2 + v**2) / 0.6) > 0)
    return np.zeros(u.shape, dtype=bool)


def lighting(drawn: Drawn, size: int, availability: float = 1.0) -> np.ndarray:
    """Return the (size, size) factors of a light that falls from one side: brightness x (1 + slope towards it).

    Args:
        drawn: says from where the light comes and how bright it is.
        size: side in pixels.
        availability: share of the light's difference from an even light of brightness 1.
    """
    import numpy as np

    place = (np.arange(size) + 0.5) / size - 0.5
    cosine, sine = direction(drawn.light or 0.0)
    towards = -sine * place[None, :] - cosine * place[:, None]  # upwards at 0 degrees, and y counts downwards
    brightness = 1 + availability * (drawn.brightness - 1)
    return np.asarray(brightness * (1 + availability * _FALL * towards))


def captions(drawn: Drawn) -> tuple[str, str]:
    """Describe a picture in two sentences, of which the second says more; the turn of the hue has no word."""
    size = "small" if drawn.scale < 0.27 else "large" if drawn.scale > 0.35 else "middle-sized"
    tilt = "upright" if abs(drawn.rotation) < 15 else "turned left" if drawn.rotation > 0 else "turned right"
    across = "left" if drawn.x < 0.45 else "right" if drawn.x > 0.55 else ""
    down = "top" if drawn.y < 0.45 else "bottom" if drawn.y > 0.55 else ""
    place = " ".join(word for word in (down, across) if word) or "centre"
    what = drawn.shape if drawn.texture == "plain" else f"{drawn.texture} {drawn.shape}"
    article = "an" if what[0] in "aeiou" else "a"
    first = f"{article} {what} in {drawn.colour}"
    more = f"a {size} {drawn.colour} {what}, {tilt}, at the {place} of a {drawn.background} picture"
    return first, more + _light_in_words(drawn)


def direction(degrees: float) -> tuple[float, float]:
    """Return cosine and sine of an angle."""
    angle = math.radians(degrees)
    return math.cos(angle), math.sin(angle)


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the smallest box around the ones of a mask: x0, y0, and x1, y1 just outside."""
    import numpy as np

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _light_in_words(drawn: Drawn) -> str:
    if drawn.light is None:
        return ""
    side = "above" if abs(drawn.light) < 20 else "the left" if drawn.light > 0 else "the right"
    level = "dimly " if drawn.brightness < 0.75 else "brightly " if drawn.brightness > 1.05 else ""
    return f", {level}lit from {side}"


def _mean_of_samples(values: np.ndarray, size: int) -> np.ndarray:
    """The (size, size) shares of each pixel's points that are set."""
    import numpy as np

    return np.asarray(values.reshape(size, _SAMPLES, size, _SAMPLES).mean(axis=(1, 3)))


def _turned(colour: tuple[int, int, int], degrees: float) -> np.ndarray:
    """A colour with its hue turned around the colour wheel; saturation and value stay."""
    import numpy as np

    if degrees == 0:
        return np.array(colour)
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
    return np.array(colorsys.hsv_to_rgb((hue + degrees / 360) % 1.0, saturation, value)) * 255


def _faded(colour: np.ndarray, availability: float) -> np.ndarray:
    """A colour on its way to grey, where no colour can be told from another."""
    return colour if availability == 1 else _GREY + availability * (colour - _GREY)


def _accent(colour: np.ndarray) -> np.ndarray:
    """The second tone of a texture: darker than a light colour, lighter than a dark one."""
    end = 0.0 if colour.mean() > 110 else 255.0
    return colour + _CONTRAST * (end - colour)
