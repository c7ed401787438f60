"""mosaic: pictures of two by two or three by three cells that show several drawn shapes or handwritten digits.

A picture shows from `least` to `most` things, each in a cell of its own, and the cells without a thing show only their
ground. What it shows is known several times over: a flag for each class (`has_square`, `has_7`), of which several may
be 1; the number of different classes; a mask, which numbers the things; and their boxes. The label is the class of one
of the things, drawn at random: all that a data set with one label an image would say of it.

Drawn shapes differ in colour, texture, size, place and rotation. Digits are those of the source `digits`, enlarged and
in a colour; a fifth of them is kept for the test pictures, so that no digit is seen in training and in the test. The
split `val` has no digits of its own: its pictures are drawn from the digits of `train`, so they are easier than those
of the test, and a penalty that is chosen on `val` may be too weak.
Picture i is a function of (seed, i) and the options alone.

Source: no publication; drawn by Reprise. The digits: Alpaydin and Kaynak 1998, as scikit-learn holds them.

Checked by: tests/stages/ingest/sources/drawn/test_mosaic.py; docs/measurements/relations.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from reprise.config.facts import Fact
from reprise.config.params import StrictModel, meaning
from stages.ingest.drawn.shapes import COLOURS, SHAPES, TEXTURES, Drawn, box, draw
from stages.ingest.source import Candidate, Extent, Source, constant_extent

if TYPE_CHECKING:
    import numpy as np

_VERSION = 1  # of the drawing: another one draws other pictures
_TEST = 5  # every so many pictures is one of the test, where things are digits, and so is every so many digits
_DIGITS = tuple(str(digit) for digit in range(10))
_INK = 0.35  # a digit covers a pixel where its ink reaches this share
_NOISE = 6.0  # standard deviation, of 255


class Cell(NamedTuple):
    """A cell of a picture: (h, w, 3) uint8, the pixels that its thing covers, and its class; None without a thing."""

    pixels: np.ndarray
    mask: np.ndarray
    label: str | None


class Mosaic(Source):
    """Several things a picture, with all that is known of them."""

    class Params(StrictModel):
        """Options of mosaic."""

        images: Annotated[int, Field(ge=20, le=1_000_000), meaning("So many pictures are drawn.", "images")] = 2000
        things: Annotated[
            Literal["shapes", "digits"], meaning("The cells show drawn shapes or handwritten digits.")
        ] = "shapes"
        grid: Annotated[Literal[2, 3], meaning("A picture has so many rows of cells, and as many columns.", "rows")] = 2
        least: Annotated[int, Field(ge=1, le=9), meaning("A picture shows at least so many things.", "things")] = 1
        most: Annotated[int, Field(ge=1, le=9), meaning("A picture shows at most so many things.", "things")] = 3
        size: Annotated[int, Field(ge=16, le=512), meaning("Pictures are squares of this side.", "pixels")] = 32
        seed: Annotated[int, Field(ge=0, lt=2**31), meaning("Another seed draws other pictures.")] = 0
        given: Annotated[
            list[Literal["flags", "mask"]],
            Field(max_length=2),
            meaning("The flags or the mask are given to methods that read them; all else is a label, for probes only."),
        ] = Field(default_factory=list)

        @model_validator(mode="after")
        def _fits_the_cells(self) -> Self:
            if not self.least <= self.most <= self.grid**2:
                raise ValueError(
                    f"`least` ({self.least}) should be at most `most` ({self.most}), and that at most the number of "
                    f"cells ({self.grid**2})"
                )
            return self

    title: ClassVar[str] = "Mosaics of several things"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "made by Reprise; no rights are claimed. Digits: CC BY 4.0"
    reads_root: ClassVar[bool] = False
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.6,  # a smaller crop often shows none of the things that the other view shows
        "flip": False,
        "jitter": 0.4,
        "grey": 0.1,
        "blur": 0.0,
        "solarize": 0.0,
    }

    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, in the order of their flags."""
        return SHAPES if self.options.things == "shapes" else _DIGITS

    def facts(self) -> Sequence[Fact]:
        """Declare the flags of the classes, their number, mask and boxes."""
        flags, mask = ("given" if name in self.options.given else "label" for name in ("flags", "mask"))
        return (
            *(Fact(f"has_{c}", "flag", flags, f"1 where a thing of class {c} is shown.") for c in self.classes()),  # type: ignore[arg-type]
            Fact("kinds", "number", "label", "So many different classes are shown."),
            Fact("mask", "mask", mask, "Numbers of the things, from 1, by rows of cells."),  # type: ignore[arg-type]
            Fact("boxes", "boxes", "label", "The smallest box around each thing, in the order of the mask."),
        )

    def candidates(self) -> Iterator[Candidate]:
        """Draw all pictures, in their order."""
        from reprise.media.image.encode import uncompressed_png

        digits = _digits() if self.options.things == "digits" else None
        for i in range(self.options.images):
            test = digits is not None and i % _TEST == _TEST - 1
            pixels, mask, labels, main = self.picture(i, digits, test)
            shown = set(labels)
            known: dict[str, Any] = {f"has_{c}": int(c in shown) for c in self.classes()}
            known |= {"kinds": float(len(shown)), "mask": mask}
            known["boxes"] = [box(mask == number + 1) for number in range(len(labels))]
            split = None if digits is None else ("test" if test else "train")
            yield Candidate(f"mosaic/{i:07d}.png", uncompressed_png(pixels), split, labels[main], None, known)

    def picture(
        self, i: int, digits: Sequence[tuple[np.ndarray, str]] | None, test: bool
    ) -> tuple[np.ndarray, np.ndarray, list[str], int]:
        """Draw picture i: (S, S, 3) and (S, S) uint8, the class of each thing, and which of them is the label."""
        import numpy as np

        options = self.options
        rng = np.random.default_rng([options.seed, i, _VERSION])
        cells = options.grid**2
        filled = set(rng.permutation(cells)[: int(rng.integers(options.least, options.most + 1))].tolist())
        edges = np.floor(np.arange(options.grid + 1) * options.size / options.grid + 0.5).astype(int)
        pixels = np.zeros((options.size, options.size, 3), np.uint8)
        mask, labels = np.zeros((options.size, options.size), np.uint8), []
        for at in range(cells):
            rows, columns = (slice(edges[k], edges[k + 1]) for k in divmod(at, options.grid))
            side = int(max(rows.stop - rows.start, columns.stop - columns.start))
            cell = _cell(digits, test, at in filled, side, rng)
            height, width = rows.stop - rows.start, columns.stop - columns.start
            pixels[rows, columns] = cell.pixels[:height, :width]
            if cell.label is not None:
                labels.append(cell.label)
                mask[rows, columns] = len(labels) * cell.mask[:height, :width]
        return pixels, mask, labels, int(rng.integers(len(labels)))

    def extent(self) -> Extent:
        """Return a digest of the options that decide the pictures; there are no files."""
        return constant_extent(f"mosaic {_VERSION} {self.options.model_dump_json()}")


def _cell(
    digits: Sequence[tuple[np.ndarray, str]] | None, test: bool, filled: bool, side: int, rng: np.random.Generator
) -> Cell:
    """Draw a cell with a shape or a digit, or its ground alone."""
    import numpy as np

    names = list(COLOURS)
    colour, background = (names[k] for k in rng.permutation(len(names))[:2].tolist())
    if not filled:
        pixels = np.array(COLOURS[background]) + rng.normal(0, _NOISE, (side, side, 3))
        return Cell(np.clip(np.floor(pixels + 0.5), 0, 255).astype(np.uint8), np.zeros((side, side), np.uint8), None)
    if digits is None:
        shape, texture = SHAPES[int(rng.integers(len(SHAPES)))], TEXTURES[int(rng.integers(len(TEXTURES)))]
        scale, turn = float(rng.uniform(0.32, 0.45)), float(rng.uniform(-45, 45))
        x, y = (float(value) for value in rng.uniform(scale, 1 - scale, 2))
        drawn = Drawn(shape, colour, background, x, y, scale, turn, texture)
        return Cell(*draw(drawn, side, rng), shape)
    own = [k for k in range(len(digits)) if (k % _TEST == _TEST - 1) == test]
    ink, label = digits[own[int(rng.integers(len(own)))]]
    opaque = _enlarged(ink, side)
    ground, tone = np.array(COLOURS[background], float), np.array(COLOURS[colour], float)
    pixels = ground + opaque[:, :, None] * (tone - ground) + rng.normal(0, _NOISE, (side, side, 3))
    return Cell(np.clip(np.floor(pixels + 0.5), 0, 255).astype(np.uint8), (opaque >= _INK).astype(np.uint8), label)


def _enlarged(ink: np.ndarray, side: int) -> np.ndarray:
    """Enlarge (8, 8) shares of ink to (side, side), along straight lines between the centres of pixels."""
    import numpy as np

    at = np.clip((np.arange(side) + 0.5) * len(ink) / side - 0.5, 0, len(ink) - 1)
    low = np.minimum(at.astype(int), len(ink) - 2)
    share = at - low
    weights = np.zeros((side, len(ink)))
    weights[np.arange(side), low] += 1 - share
    weights[np.arange(side), low + 1] += share
    return np.asarray(weights @ ink @ weights.T)


def _digits() -> list[tuple[np.ndarray, str]]:
    """Read the digits of scikit-learn from its file: (8, 8) shares of ink, and their classes."""
    import importlib.metadata

    import numpy as np

    file = importlib.metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(str(file), delimiter=",")
    return [(row[:-1].reshape(8, 8) / 16, str(int(row[-1]))) for row in table]
