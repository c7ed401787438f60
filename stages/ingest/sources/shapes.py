"""shapes: drawn pictures of which everything is known: shape, colours, texture, place, size, rotation, light; masks.

Each picture shows one shape (the class) in one colour on a background of another, with a soft gradient and a little
noise. Texture, hue and light vary besides where `vary` names them. The facts are numbers and words from which the
picture was drawn, so a probe can ask what a representation keeps, and a method can be given the caption or the pose.
Picture i is a function of (seed, i) alone: more images change none of the others, and a factor that varies takes the
same values whatever else varies. Every shape looks different at every rotation that is drawn (-45 to 45 degrees), so
rotation can be read.

Shortcuts and faults can be planted, each by a known amount. With `correlate`, a factor follows the class with a given
probability: a word is then the class's own, and a number lies in the class's fifth of its range (of a position, the
place from the left). `availability` says how much of a factor is seen, and `noise` what it is seen in. `long_tail`
makes each shape rarer than the one before, and `label_noise` replaces labels, while the fact `true_class` keeps the
shape that was drawn. All pictures have these; with `train_only`, every fifth picture belongs to the test split and has
no tie, no tail and no wrong label (val, which ingest takes from train, has them).

Source: no publication; drawn by Reprise. Availability and predictivity are the terms of Hermann et al. 2023 ("On the
foundations of shortcut learning", arXiv:2310.16228), whose data are vectors, not pictures.

Checked by: tests/stages/ingest/sources/test_source_facts.py; tests/stages/ingest/drawn/test_shapes.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import Field, model_validator

from reprise.config.facts import Fact, Use
from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import wrong_value
from stages.ingest.drawn.shapes import (
    COLOURS,
    HUELESS,
    NOISE,
    SHAPES,
    TEXTURES,
    Drawn,
    box,
    captions,
    direction,
    draw,
    inside,
)
from stages.ingest.source import Candidate, Extent, Source

if TYPE_CHECKING:
    import numpy as np

__all__ = ["COLOURS", "SHAPES", "TEXTURES", "Drawn", "Shapes", "captions", "draw", "inside"]

Factor = Literal["colour", "position", "scale", "rotation", "background", "texture", "hue", "light"]
Visible = Literal["shape", "colour", "background", "texture", "light"]
Given = Literal[
    "caption", "pose", "colour", "background", "x", "y", "scale", "rotation", "mask", "boxes",
    "texture", "hue", "light", "brightness",
]  # fmt: skip
Share = Annotated[float, Field(ge=0, le=1)]

FIRST: tuple[Factor, ...] = ("colour", "position", "scale", "rotation", "background")  # vary unless params say else
_LATER = ("correlate", "availability", "noise", "long_tail", "label_noise", "train_only")  # options: see `extent`
_SMALLEST, _LARGEST, _USUAL = 0.2, 0.42, 0.3  # half the longest extent of a shape, as a share of the picture's side
_TURN = 45.0  # degrees to either side: a square looks the same after 90
_HUE = 20.0  # degrees to either side: colours with two names never meet
_LIGHT = 60.0  # degrees to either side of above
_DIM, _BRIGHT = 0.6, 1.2
_TEST_EVERY = 5
_VERSION = 1  # of the drawing: another one draws other pictures


class Choice(NamedTuple):
    """What is drawn for one picture, and what is said of it."""

    drawn: Drawn
    label: str  # as the data set says it
    aligned: bool  # whether every factor of `correlate` is as in the class
    split: str | None


class Shapes(Source):
    """One shape a picture, with all that is known of it."""

    class Params(StrictModel):
        """Options of shapes."""

        images: Annotated[int, Field(ge=20, le=1_000_000), meaning("So many pictures are drawn.", "images")] = 2000
        size: Annotated[int, Field(ge=16, le=512), meaning("Pictures are squares of this side.", "pixels")] = 32
        seed: Annotated[int, Field(ge=0, lt=2**31), meaning("Another seed draws other pictures.")] = 0
        vary: Annotated[
            list[Factor],
            Field(max_length=8),
            meaning("These factors differ between pictures of one shape; the others are the same in all pictures."),
        ] = Field(default_factory=lambda: list(FIRST))
        given: Annotated[
            list[Given],
            Field(max_length=14),
            meaning("These facts are given to methods that read them; all other facts are labels, for probes only."),
        ] = Field(default_factory=lambda: list[Given](["caption"]))
        correlate: Annotated[
            dict[Factor, Share],
            meaning(
                "Factors that follow the shape, each with its probability, such as {colour: 0.9}: shortcuts. Each has "
                "to be one that varies."
            ),
        ] = Field(default_factory=dict)
        availability: Annotated[
            dict[Visible, Share],
            meaning(
                "This share is seen of shape, colour, background, texture or light, such as {colour: 0.3}: 0 is "
                "nothing, 1 is all, as it is of those that are not named."
            ),
        ] = Field(default_factory=dict)
        noise: Annotated[
            float, Field(ge=0, le=128), meaning("The noise of every pixel has this standard deviation, of 255.")
        ] = NOISE
        long_tail: Annotated[
            float,
            Field(ge=1, le=1000),
            meaning("The first shape is drawn so many times as often as the last; those between fall geometrically."),
        ] = 1.0
        label_noise: Annotated[
            float, Field(ge=0, lt=1), meaning("This share of labels is replaced by another class, drawn evenly.")
        ] = 0.0
        train_only: Annotated[
            bool,
            meaning(
                "Every fifth picture is a test picture, without ties, long tail and wrong labels; otherwise all "
                "pictures have them, and ingest makes the splits."
            ),
        ] = False

        @model_validator(mode="after")
        def _whole(self) -> Self:
            """Refuse factors that nothing would come of."""
            if still := [name for name in self.correlate if name not in self.vary]:
                raise wrong_value(f"correlate names {still[0]}, which does not vary: add it to vary")
            if still := [name for name in ("texture", "light") if name in self.availability and name not in self.vary]:
                raise wrong_value(f"availability names {still[0]}, which does not vary: add it to vary")
            return self

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
        """Declare all that is known of a picture; `source.options.given` decides what methods may read.

        Texture, hue and light are facts where they vary; the true class and the ties, where params plant them.
        """

        def use(name: str) -> Use:
            return "given" if name in self.options.given else "label"

        found = [
            Fact("colour", "word", use("colour"), "Colour of the shape."),
            Fact("background", "word", use("background"), "Colour of the background, before its gradient."),
            Fact("x", "number", use("x"), "Centre of the shape from the left, as a share of the side."),
            Fact("y", "number", use("y"), "Centre of the shape from the top, as a share of the side."),
            Fact("scale", "number", use("scale"), "Half the extent of the shape, as a share of the side."),
            Fact("rotation", "number", use("rotation"), "Degrees, counter-clockwise, from -45 to 45."),
        ]
        vary = self.options.vary
        if "texture" in vary:
            found.append(Fact("texture", "word", use("texture"), "Pattern on the shape."))
        if "hue" in vary:
            meant = "Degrees by which the colour is turned, from -20 to 20; unknown of white and black."
            found.append(Fact("hue", "number", use("hue"), meant))
        if "light" in vary:
            found.append(Fact("light", "number", use("light"), "Degrees from above to the left, from -60 to 60."))
            found.append(Fact("brightness", "number", use("brightness"), "Factor of all values, from 0.6 to 1.2."))
        if self.options.label_noise:
            found.append(Fact("true_class", "word", "label", "The shape that was drawn, whatever the label says."))
        if self.options.correlate:
            found.append(Fact("aligned", "flag", "label", "Whether all tied factors are those of the class."))
        return (
            *found,
            Fact("caption", "caption", use("caption"), "Two sentences that name shape, colours, size and place."),
            Fact("pose", "pose", use("pose"), "x, y, scale, and cosine and sine of the rotation."),
            Fact("mask", "mask", use("mask"), "1 where the shape covers at least half of a pixel."),
            Fact("boxes", "boxes", use("boxes"), "The smallest box around the mask."),
        )

    def candidates(self) -> Iterator[Candidate]:
        """Draw all pictures, in their order."""
        from reprise.media.image.encode import uncompressed_png

        declared = [fact.name for fact in self.facts()]
        for i in range(self.options.images):
            choice, rng = self.choice(i)
            drawn = choice.drawn
            pixels, mask = draw(drawn, self.options.size, rng, self.options.availability, self.options.noise)
            known = {
                **drawn._asdict(),
                "true_class": drawn.shape,
                "aligned": int(choice.aligned),
                "caption": captions(drawn),
                "pose": [drawn.x, drawn.y, drawn.scale, *direction(drawn.rotation)],
                "mask": mask,
                "boxes": [box(mask)],
            }
            if drawn.colour in HUELESS:
                del known["hue"]
            facts = {name: known[name] for name in declared if name in known}
            yield Candidate(f"shapes/{i:07d}.png", uncompressed_png(pixels), choice.split, choice.label, facts=facts)

    def choice(self, i: int) -> tuple[Choice, np.random.Generator]:
        """Draw what picture i shows, and return the generator for its gradient and noise.

        All factors are drawn whatever varies, so that a factor that varies takes the same values with any others.
        Texture, hue, light, ties and faults have a generator of their own, so that none of them changes what the first
        one draws.
        """
        import numpy as np

        options = self.options
        rng = np.random.default_rng([options.seed, i, _VERSION])
        later = np.random.default_rng([options.seed, i, _VERSION, 1])
        shape = int(rng.integers(len(SHAPES)))
        words = rng.permutation(len(COLOURS))[:2]
        size, turn, x, y = (float(value) for value in rng.random(4))
        in_tail, mistaken, other, texture, hue, light, level = (float(value) for value in later.random(7))
        ties = dict(zip(get_args(Factor), later.random(len(get_args(Factor))).tolist(), strict=True))
        test = options.train_only and i % _TEST_EVERY == _TEST_EVERY - 1
        if options.long_tail > 1 and not test:
            shape = _of_tail(in_tail, options.long_tail)
        tied = set() if test else {name for name, strength in options.correlate.items() if ties[name] < strength}
        numbers = {"position": x, "scale": size, "rotation": turn, "hue": hue, "light": light}
        numbers = {n: (shape + value) / len(SHAPES) if n in tied else value for n, value in numbers.items()}
        pattern = TEXTURES[shape if "texture" in tied else int(texture * len(TEXTURES))]
        colour, background = self._colours(shape, words, tied)
        drawn = self._placed(Drawn(SHAPES[shape], colour, background, 0, 0, 0, 0, pattern), numbers, y, level)
        own = {"colour": _own_colours(shape)[0], "background": _own_colours(shape)[1], "texture": TEXTURES[shape]}
        aligned = all(
            getattr(drawn, name) == own[name] if name in own else int(numbers[name] * len(SHAPES)) == shape
            for name in options.correlate
        )
        label = shape
        if mistaken < options.label_noise and not test:
            label = (shape + 1 + int(other * (len(SHAPES) - 1))) % len(SHAPES)
        split = ("test" if test else "train") if options.train_only else None
        return Choice(drawn, SHAPES[label], aligned, split), rng

    def drawn(self, i: int) -> tuple[Drawn, np.random.Generator]:
        """Return what picture i shows, and the generator for its gradient and noise."""
        choice, rng = self.choice(i)
        return choice.drawn, rng

    def _colours(self, shape: int, words: np.ndarray, tied: set[Factor]) -> tuple[str, str]:
        """Choose the colours of shape and background, which are never the same."""
        names, vary = list(COLOURS), self.options.vary
        first, second = names[words[0]], names[words[1]]
        own, own_background = _own_colours(shape)
        colour = own if "colour" in tied else first if "colour" in vary else "red"
        if "background" in tied:
            return (second if colour == own_background else colour), own_background
        others = [name for name in (second, first, "white") if name != colour]
        return colour, others[0] if "background" in vary else ("white" if colour != "white" else "black")

    def _placed(self, drawn: Drawn, numbers: dict[str, float], y: float, level: float) -> Drawn:
        """Turn numbers from 0 to 1 into what is measured; what does not vary is the same everywhere."""
        vary = set(self.options.vary)
        scale = _SMALLEST + numbers["scale"] * (_LARGEST - _SMALLEST) if "scale" in vary else _USUAL
        reach = 0.5 - scale  # the whole shape stays inside
        measured: dict[str, float] = {
            "x": 0.5 + (2 * numbers["position"] - 1) * reach if "position" in vary else 0.5,
            "y": 0.5 + (2 * y - 1) * reach if "position" in vary else 0.5,
            "scale": scale,
            "rotation": (2 * numbers["rotation"] - 1) * _TURN if "rotation" in vary else 0.0,
        }
        if "hue" in vary and drawn.colour not in HUELESS:
            measured["hue"] = (2 * numbers["hue"] - 1) * _HUE
        if "light" in vary:
            measured["light"] = (2 * numbers["light"] - 1) * _LIGHT
            measured["brightness"] = _DIM + level * (_BRIGHT - _DIM)
        texture = drawn.texture if "texture" in vary else "plain"
        rounded: dict[str, Any] = {name: round(value, 6) for name, value in measured.items()}
        return drawn._replace(texture=texture, **rounded)

    def extent(self) -> Extent:
        """Return the number of pictures, and a digest of the options that decide them.

        Options that came later are left out where they are as if they were not there: they draw the same pictures.
        """
        plain = type(self.options)()
        same = {name for name in _LATER if getattr(self.options, name) == getattr(plain, name)}
        decides = f"shapes {_VERSION} {self.options.model_dump_json(exclude=same)}"
        return Extent(self.options.images, 0, hashlib.sha256(decides.encode()).hexdigest())


def _own_colours(shape: int) -> tuple[str, str]:
    """The colours of shape and background that a class has where they are tied to it; never the same two."""
    names = list(COLOURS)
    return names[shape], names[(shape + 3) % len(names)]


def _of_tail(number: float, ratio: float) -> int:
    """The class at a number from 0 to 1, where the first is `ratio` times as frequent as the last."""
    last = len(SHAPES) - 1
    weights = [ratio ** (-k / last) for k in range(last + 1)]
    reached = 0.0
    for k, weight in enumerate(weights):
        reached += weight / sum(weights)
        if number < reached:
            return k
    return last
