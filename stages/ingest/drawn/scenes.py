"""Draw scenes of several shapes that move before a camera: pictures, who is seen where, how far each is hidden, flow.

A scene is known at every point and time, so nothing here is estimated: a picture of any part of it is drawn from the
shapes, and the flow of a pixel is the way of the point that it shows.

Legend: lengths are shares of the side of the camera's picture, x to the right and y downwards; n things, the nearest
first. The picture of a frame moves over the ground with the camera, and places of things are those in the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from stages.ingest.drawn.shapes import direction, inside, pattern

if TYPE_CHECKING:
    import numpy as np

_SAMPLES = 4  # a pixel is the mean of so many times so many points
_FINE = 96  # points along an axis of a shape, by which its hidden share and its box are measured
_NOISE = 6.0  # standard deviation, of 255
_CONTRAST = 0.5  # the second tone of a texture lies so far from the colour, on the way to black


class Thing(NamedTuple):
    """What stays of a thing while it moves."""

    shape: str
    colour: tuple[float, float, float]  # of 255
    texture: str
    scale: float  # half the farthest extent


class Place(NamedTuple):
    """Where a thing is in the picture of a frame."""

    x: float
    y: float
    rotation: float  # degrees, counter-clockwise


class Scene(NamedTuple):
    """A clip: n things, nearest first, over all its frames.

    Attributes:
        things: the n things.
        places: of each frame, the n places.
        camera: of each frame, where the picture's corner lies on the ground.
        brightness: of each frame, a factor of all values.
        ground: colour of the ground, of 255.
        waves: (w, 4), each a wave of the ground: cycles along x and along y, phase, height.
    """

    things: Sequence[Thing]
    places: Sequence[Sequence[Place]]
    camera: Sequence[tuple[float, float]]
    brightness: Sequence[float]
    ground: tuple[float, float, float]
    waves: Sequence[tuple[float, float, float, float]]


class Window(NamedTuple):
    """A square part of the picture of a frame: its corner and its side. (0, 0, 1) is the whole picture."""

    x: float
    y: float
    side: float


WHOLE = Window(0.0, 0.0, 1.0)


def own_axes(thing: Thing, place: Place, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points of the picture in a thing's own axes: to its right and upwards, its farthest point 1 away."""
    cosine, sine = direction(place.rotation)
    right, up = (x - place.x) / thing.scale, (place.y - y) / thing.scale
    return cosine * right + sine * up, cosine * up - sine * right


def from_own_axes(thing: Thing, place: Place, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points of a thing's own axes in the picture: the inverse of `own_axes`."""
    cosine, sine = direction(place.rotation)
    right, up = cosine * u - sine * v, sine * u + cosine * v
    return place.x + thing.scale * right, place.y - thing.scale * up


def draw_scene(
    scene: Scene, frame: int, window: Window, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a part of a frame.

    Args:
        scene: what there is.
        frame: its number.
        window: the part.
        size: side in pixels.
        rng: draws the noise.

    Returns:
        (size, size, 3) uint8, and (size, size) uint8: the thing, counted from 1, that most of a pixel shows, 0 for the
        ground.
    """
    import numpy as np

    points = (np.arange(size * _SAMPLES) + 0.5) / (size * _SAMPLES) * window.side
    x, y = window.x + points, window.y + points
    values = _ground(scene, frame, x, y)
    owner = np.zeros((len(y), len(x)), dtype=np.uint8)
    for k in reversed(range(len(scene.things))):  # the farthest first
        thing, place = scene.things[k], scene.places[frame][k]
        rows, columns = (
            slice(*np.searchsorted(along, (at - thing.scale, at + thing.scale)))
            for along, at in ((y, place.y), (x, place.x))
        )
        u, v = own_axes(thing, place, *np.meshgrid(x[columns], y[rows]))
        covered = inside(thing.shape, u, v)
        owner[rows, columns][covered] = k + 1
        values[rows, columns][covered] = thing.colour
        values[rows, columns][covered & pattern(thing.texture, u, v)] = np.array(thing.colour) * (1 - _CONTRAST)
    blocks = (size, _SAMPLES, size, _SAMPLES)
    pixels = values.reshape(*blocks, 3).mean(axis=(1, 3)) * scene.brightness[frame]
    pixels = pixels + rng.normal(0, _NOISE, size=pixels.shape)
    shares = np.stack([(owner == k).reshape(blocks).mean(axis=(1, 3)) for k in range(len(scene.things) + 1)])
    return np.clip(np.floor(pixels + 0.5), 0, 255).astype(np.uint8), shares.argmax(axis=0).astype(np.uint8)


def flow_of(scene: Scene, frame: int, owner: np.ndarray) -> np.ndarray:
    """Return how far the point that each pixel of a whole frame shows moves until the next frame.

    Args:
        scene: what there is.
        frame: its number; there is a next one.
        owner: (size, size) the thing that a pixel shows, as `draw_scene` returns it.

    Returns:
        (size, size, 2) float32, pixels to the right and downwards, also of points that are hidden in the next frame.
    """
    import numpy as np

    size = len(owner)
    centres = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(centres, centres)
    here, there = scene.camera[frame], scene.camera[frame + 1]
    moved = np.stack([np.full(x.shape, here[0] - there[0]), np.full(y.shape, here[1] - there[1])], axis=-1)
    for k, thing in enumerate(scene.things):
        own = owner == k + 1
        u, v = own_axes(thing, scene.places[frame][k], x[own], y[own])
        to_x, to_y = from_own_axes(thing, scene.places[frame + 1][k], u, v)
        moved[own] = np.stack([to_x - x[own], to_y - y[own]], axis=-1)
    return (moved * size).astype(np.float32)


def hidden_share(scene: Scene, frame: int, k: int) -> float:
    """Return the share of thing k, counted from 0, that nearer things hide; measured on a fixed grid of its points."""
    import numpy as np

    own, at = scene.things[k], scene.places[frame][k]
    nearer = [
        (thing, place)
        for thing, place in zip(scene.things[:k], scene.places[frame], strict=False)
        if math.hypot(place.x - at.x, place.y - at.y) < thing.scale + own.scale
    ]
    if not nearer:
        return 0.0
    x, y = _points_of(scene, frame, k)
    hidden = np.zeros(len(x), dtype=bool)
    for thing, place in nearer:
        hidden |= inside(thing.shape, *own_axes(thing, place, x, y))
    return float(hidden.mean())


def box_of(scene: Scene, frame: int, k: int, window: Window, size: int) -> tuple[float, float, float, float]:
    """Return the box around the whole of thing k, hidden or not, within a window: x0, y0, x1, y1 in pixels."""
    x, y = _points_of(scene, frame, k)
    left, right = ((value - window.x) / window.side * size for value in (x.min(), x.max()))
    top, bottom = ((value - window.y) / window.side * size for value in (y.min(), y.max()))
    return tuple(round(min(max(float(value), 0.0), float(size)), 3) for value in (left, top, right, bottom))  # type: ignore[return-value]


def _points_of(scene: Scene, frame: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The points of a grid that lie in thing k, in the picture."""
    import numpy as np

    thing = scene.things[k]
    u, v = np.meshgrid(*[(np.arange(_FINE) + 0.5) / _FINE * 2 - 1] * 2)
    within = inside(thing.shape, u, v)
    return from_own_axes(thing, scene.places[frame][k], u[within], v[within])


def _ground(scene: Scene, frame: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The colour of the ground at the crossings of columns x (w,) and rows y (h,) of a frame's picture: (h, w, 3)."""
    import numpy as np

    to_x, to_y = scene.camera[frame]
    height = np.zeros((len(y), len(x)))
    for along_x, along_y, phase, high in scene.waves:  # sin(a + b), from sines and cosines along the two axes
        a, b = 2 * math.pi * along_x * (x + to_x), 2 * math.pi * (along_y * (y + to_y) + phase)
        height += high * (np.outer(np.cos(b), np.sin(a)) + np.outer(np.sin(b), np.cos(a)))
    return np.asarray(np.array(scene.ground) + height[..., None])
