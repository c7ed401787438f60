"""shapes: drawn pictures of which everything is known: shape, colours, place, size, rotation; masks, boxes, captions.

Each picture shows one shape (the class) in one colour on a background of another, with a soft gradient and a little
noise. Its facts are numbers and words from which the picture was drawn, so a probe can ask what a representation keeps,
and a method can be given the caption or the pose. Picture i is a function of (seed, i) alone: more images change none
of the others. Every shape looks different at every rotation that is drawn (-45 to 45 degrees), so rotation can be read.

Source: no publication; drawn by Reprise.

Checked by: tests/stages/ingest/sources/test_source_facts.py.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import Field

from reprise.config.facts import Fact, Use
from reprise.config.params import StrictModel, meaning
from stages.ingest.source import Candidate, Extent, Source

if TYPE_CHECKING:
    import numpy as np

Factor = Literal["colour", "position", "scale", "rotation", "background"]
Given = Literal["caption", "pose", "colour", "background", "x", "y", "scale", "rotation", "mask", "boxes"]

SHAPES = ("arrow", "cross", "ellipse", "square", "triangle")
COLOURS = {
    "red": (214, 48, 49), "green": (46, 160, 67), "blue": (45, 90, 210), "yellow": (240, 200, 40),
    "purple": (140, 70, 180), "cyan": (50, 190, 200), "white": (240, 240, 240), "black": (30, 30, 30),
}  # fmt: skip
_SMALLEST, _LARGEST, _USUAL = 0.2, 0.42, 0.3  # half the longest extent of a shape, as a share of the picture's side
_TURN = 45.0  # degrees to either side: a square looks the same after 90
_SAMPLES = 4  # a pixel is the mean of so many times so many points
_NOISE = 6.0  # standard deviation, of 255
_VERSION = 1  # of the drawing: another one draws other pictures


class Drawn(NamedTuple):
    """What one picture shows; the place is that of the shape's centre, and all lengths are shares of the side."""

    shape: str
    colour: str
    background: str
    x: float
    y: float
    scale: float
    rotation: float  # degrees, counter-clockwise


class Shapes(Source):
    """One shape a picture, with all that is known of it."""

    class Params(StrictModel):
        """Options of shapes."""

        images: Annotated[int, Field(ge=20, le=1_000_000), meaning("So many pictures are drawn.", "images")] = 2000
        size: Annotated[int, Field(ge=16, le=512), meaning("Pictures are squares of this side.", "pixels")] = 32
        seed: Annotated[int, Field(ge=0, lt=2**31), meaning("Another seed draws other pictures.")] = 0
        vary: Annotated[
            list[Factor],
            Field(max_length=5),
            meaning("These factors differ between pictures of one shape; the others are the same in all pictures."),
        ] = Field(default_factory=lambda: list(get_args(Factor)))
        given: Annotated[
            list[Given],
            Field(max_length=10),
            meaning("These facts are given to methods that read them; all other facts are labels, for probes only."),
        ] = Field(default_factory=lambda: list[Given](["caption"]))

    title: ClassVar[str] = "Drawn shapes"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "made by Reprise; no rights are claimed"
    reads_root: ClassVar[bool] = False
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.3,
        "flip": False,
        "jitter": 0.4,
        "grey": 0.1,
        "blur": 0.0,
        "solarize": 0.0,
    }

    def facts(self) -> Sequence[Fact]:
        """Declare all that is known of a picture; `source.options.given` decides what methods may read."""

        def use(name: str) -> Use:
            return "given" if name in self.options.given else "label"

        return (
            Fact("colour", "word", use("colour"), "Colour of the shape."),
            Fact("background", "word", use("background"), "Colour of the background, before its gradient."),
            Fact("x", "number", use("x"), "Centre of the shape from the left, as a share of the side."),
            Fact("y", "number", use("y"), "Centre of the shape from the top, as a share of the side."),
            Fact("scale", "number", use("scale"), "Half the extent of the shape, as a share of the side."),
            Fact("rotation", "number", use("rotation"), "Degrees, counter-clockwise, from -45 to 45."),
            Fact("caption", "caption", use("caption"), "Two sentences that name shape, colours, size and place."),
            Fact("pose", "pose", use("pose"), "x, y, scale, and cosine and sine of the rotation."),
            Fact("mask", "mask", use("mask"), "1 where the shape covers at least half of a pixel."),
            Fact("boxes", "boxes", use("boxes"), "The smallest box around the mask."),
        )

    def candidates(self) -> Iterator[Candidate]:
        """Draw all pictures, in their order."""
        from reprise.media.image.encode import uncompressed_png

        for i in range(self.options.images):
            drawn, rng = self.drawn(i)
            pixels, mask = draw(drawn, self.options.size, rng)
            known = {
                **{name: getattr(drawn, name) for name in ("colour", "background", "x", "y", "scale", "rotation")},
                "caption": captions(drawn),
                "pose": [drawn.x, drawn.y, drawn.scale, *_direction(drawn)],
                "mask": mask,
                "boxes": [_box(mask)],
            }
            yield Candidate(f"shapes/{i:07d}.png", uncompressed_png(pixels), None, drawn.shape, None, known)

    def drawn(self, i: int) -> tuple[Drawn, np.random.Generator]:
        """Draw what picture i shows, and return the generator for its gradient and noise.

        All factors are drawn whatever varies, so that a factor that varies takes the same values with any others.
        """
        import numpy as np

        rng = np.random.default_rng([self.options.seed, i, _VERSION])
        names, vary = list(COLOURS), set(self.options.vary)
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        numbers = rng.permutation(len(names))[:2]
        size, turn, x, y = (float(value) for value in rng.random(4))
        scale = _SMALLEST + size * (_LARGEST - _SMALLEST) if "scale" in vary else _USUAL
        reach = 0.5 - scale  # the whole shape stays inside
        colour = names[numbers[0]] if "colour" in vary else "red"
        others = [name for name in (names[numbers[1]], names[numbers[0]], "white") if name != colour]
        drawn = Drawn(
            shape,
            colour,
            others[0] if "background" in vary else ("white" if colour != "white" else "black"),
            0.5 + (2 * x - 1) * reach if "position" in vary else 0.5,
            0.5 + (2 * y - 1) * reach if "position" in vary else 0.5,
            scale,
            (2 * turn - 1) * _TURN if "rotation" in vary else 0.0,
        )
        return drawn._replace(**{name: round(getattr(drawn, name), 6) for name in ("x", "y", "scale", "rotation")}), rng

    def extent(self) -> Extent:
        """Return the number of pictures, and a digest of the options that decide them."""
        decides = f"shapes {_VERSION} {self.options.model_dump_json()}"
        return Extent(self.options.images, 0, hashlib.sha256(decides.encode()).hexdigest())


def draw(drawn: Drawn, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one picture.

    Args:
        drawn: what it shows.
        size: side in pixels.
        rng: draws the background's gradient and the noise.

    Returns:
        (size, size, 3) uint8, and the mask, (size, size) uint8 of 0 and 1.
    """
    import numpy as np

    points = (np.arange(size * _SAMPLES) + 0.5) / (size * _SAMPLES)
    x, y = (points - drawn.x)[None, :] / drawn.scale, (drawn.y - points)[:, None] / drawn.scale
    cosine, sine = _direction(drawn)
    u, v = cosine * x + sine * y, cosine * y - sine * x  # the shape's own axes, y upwards, extent 1
    covered = inside(drawn.shape, u, v).reshape(size, _SAMPLES, size, _SAMPLES).mean(axis=(1, 3))
    place = (np.arange(size) + 0.5) / size - 0.5
    slope = rng.uniform(-60, 60, size=2)
    gradient = (slope[0] * place[None, :] + slope[1] * place[:, None])[:, :, None]
    ground = np.array(COLOURS[drawn.background]) + gradient
    pixels = ground + covered[:, :, None] * (np.array(COLOURS[drawn.colour]) - ground)
    pixels = pixels + rng.normal(0, _NOISE, size=(size, size, 3))
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


def captions(drawn: Drawn) -> tuple[str, str]:
    """Describe a picture in two sentences, of which the second says more."""
    size = "small" if drawn.scale < 0.27 else "large" if drawn.scale > 0.35 else "middle-sized"
    tilt = "upright" if abs(drawn.rotation) < 15 else "turned left" if drawn.rotation > 0 else "turned right"
    across = "left" if drawn.x < 0.45 else "right" if drawn.x > 0.55 else ""
    down = "top" if drawn.y < 0.45 else "bottom" if drawn.y > 0.55 else ""
    place = " ".join(word for word in (down, across) if word) or "centre"
    article = "an" if drawn.shape[0] in "aeiou" else "a"
    first = f"{article} {drawn.shape} in {drawn.colour}"
    return first, f"a {size} {drawn.colour} {drawn.shape}, {tilt}, at the {place} of a {drawn.background} picture"


def _direction(drawn: Drawn) -> tuple[float, float]:
    angle = math.radians(drawn.rotation)
    return math.cos(angle), math.sin(angle)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest box around the ones of a mask: x0, y0, and x1, y1 just outside."""
    import numpy as np

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
