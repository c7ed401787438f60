"""transforms2d: drawn objects on drawn backgrounds, changed by transformations of known names and values.

A picture is background(t(object)): the class is the object, t is drawn anew for each picture from the transformations
that the options name, and nothing else differs between two pictures of a class but the background. The facts are the
values that were drawn. So it is known exactly to what a representation should be invariant: two data sets that differ
in `transform_seed` alone hold pairs of pictures that differ in the values of the transformations alone.

Eighteen transformations in three families can be chosen, by name or by family; `strengths` weakens one (1 is full):

    geometric     translate, rotate (any angle), scale (0.4 to 1), v_flip, h_flip, shear (30 degrees each way)
    photometric   hue (any turn), brightness (factor 0 to 2), grayscale, posterize (1 bit), invert, sharpen
    corruption    blur, noise, pixelate, elastic, erasing (a square of 0.44 of the side), contrast (factor 0 to 2)

Objects and backgrounds are random, each a function of its number: `first` and `classes` choose objects 0, 1, ..., so
that a second data set of the same `object_seed` can have the same, other or overlapping classes. Picture i is a
function of the options but not of their number, and a transformation takes the same values whatever else is chosen.

Source: Speicher et al. 2024, "Understanding the Role of Invariance in Transfer Learning" (TMLR), data set
Transforms-2D; names, families and most ranges are those of the authors' code,
tillspeicher/representation-invariance-transfer.

Deviations: objects and backgrounds are drawn, where the authors use 61 cut-out photographs and 867 photographs of
nature; any number is possible here. Transformations are applied in one fixed order, geometric first. Shear is 30
degrees and not 50, so that an object stays in its picture. Noise is Gaussian of standard deviation 0.5 around 0; the
authors' code clips negative noise to 0, so that it only brightens.
Strengths are ours, as are the formulas of sharpening and of the elastic field.

Checked by: tests/stages/ingest/drawn/test_transforms2d.py; docs/measurements/factors.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from reprise.config.facts import Fact
from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import wrong_value
from stages.ingest.drawn.objects import background_of, object_of
from stages.ingest.drawn.shapes import box
from stages.ingest.drawn.transformations import FLAGS, NAMES, Family, Name, draw_values, expand, parameters_of, render
from stages.ingest.source import Candidate, Extent, Source

if TYPE_CHECKING:
    import numpy as np

MEANINGS = {
    "translate_x": "To the right, as a share of the room that the object has.",
    "translate_y": "Downwards, as a share of the room that the object has.",
    "rotate": "Degrees, counter-clockwise.",
    "scale": "Factor of the object's size.",
    "shear_x": "Degrees of the shear along x.",
    "shear_y": "Degrees of the shear along y.",
    "hue": "Degrees on the colour wheel.",
    "brightness": "Factor of all values.",
    "blur": "Standard deviation of the Gaussian, as a share of the side.",
    "contrast": "Factor of the distance from the object's mean.",
}
_VERSION = 1  # of the drawing: another one draws other pictures


class Transforms2d(Source):
    """One transformed object a picture, on a background."""

    class Params(StrictModel):
        """Options of transforms2d."""

        images: Annotated[int, Field(ge=20, le=1_000_000), meaning("So many pictures are drawn.", "images")] = 2000
        size: Annotated[int, Field(ge=16, le=512), meaning("Pictures are squares of this side.", "pixels")] = 32
        seed: Annotated[
            int, Field(ge=0, lt=2**31), meaning("Another seed draws other pictures of the same objects.")
        ] = 0
        transform_seed: Annotated[
            int | None,
            Field(ge=0, lt=2**31),
            meaning("Another seed draws other values of the transformations, and nothing else; null takes `seed`."),
        ] = None
        object_seed: Annotated[int, Field(ge=0, lt=2**31), meaning("Another seed makes other objects.")] = 0
        classes: Annotated[int, Field(ge=2, le=1000), meaning("So many objects are classes.", "objects")] = 10
        first: Annotated[
            int, Field(ge=0, lt=2**31), meaning("The first class is this object; the others are those after it.")
        ] = 0
        backgrounds: Annotated[
            int, Field(ge=0, le=1_000_000), meaning("So many backgrounds there are; with 0 all is grey.", "pictures")
        ] = 867
        transformations: Annotated[
            list[Name | Family],
            Field(max_length=21),
            meaning("These transformations, or families of them, are applied to every object."),
        ] = Field(default_factory=lambda: list[Name | Family](["geometric"]))
        strengths: Annotated[
            dict[Name, Annotated[float, Field(ge=0, le=1)]],
            meaning("A transformation is weakened to this share of its range; 1 where none is named."),
        ] = Field(default_factory=dict)

        @model_validator(mode="after")
        def _whole(self) -> Self:
            """Refuse strengths that nothing would come of."""
            if still := [name for name in self.strengths if name not in expand(self.transformations)]:
                raise wrong_value(f"strengths names {still[0]}, which is not applied: add it to transformations")
            return self

    title: ClassVar[str] = "Transforms-2D, drawn objects"
    citation: ClassVar[str] = (
        "T. Speicher, V. Nanda and K. P. Gummadi, Understanding the Role of Invariance in Transfer Learning, TMLR 2024"
    )
    licence: ClassVar[str] = "made by Reprise; no rights are claimed"
    reads_root: ClassVar[bool] = False
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.5,
        "flip": False,
        "jitter": 0.0,
        "grey": 0.0,
        "blur": 0.0,
        "solarize": 0.0,
    }

    def facts(self) -> Sequence[Fact]:
        """Declare the values that transformations drew, the background, and where the object is seen."""
        found = []
        for name in expand(self.options.transformations):
            if name in FLAGS:
                found.append(Fact(name, "flag", "label", f"Whether {name} happened."))
            else:
                found += [Fact(value, "number", "label", MEANINGS[value]) for value in parameters_of(name)]
        return (
            *found,
            Fact("background", "word", "label", "Number of the background."),
            Fact("mask", "mask", "label", "1 where the object covers at least half of a pixel."),
            Fact("boxes", "boxes", "label", "The smallest box around the mask; none where nothing is seen."),
        )

    def candidates(self) -> Iterator[Candidate]:
        """Draw all pictures, in their order."""
        from reprise.media.image.encode import uncompressed_png

        for i in range(self.options.images):
            pixels, label, facts = self.picture(i)
            yield Candidate(f"transforms2d/{i:07d}.png", uncompressed_png(pixels), None, label, None, facts)

    def picture(self, i: int) -> tuple[np.ndarray, str, dict[str, Any]]:
        """Draw picture i: (size, size, 3) uint8, its class and its facts."""
        import numpy as np

        options = self.options
        rng = np.random.default_rng([options.seed, i, _VERSION])
        number = options.first + int(rng.integers(options.classes))
        background = int(rng.integers(max(1, options.backgrounds)))
        seed = options.seed if options.transform_seed is None else options.transform_seed
        values, rngs = draw_values(
            expand(options.transformations),
            lambda place: np.random.default_rng([seed, i, _VERSION, 1 + place]),
            options.strengths,
        )
        rgb, alpha = render(object_of(options.object_seed, number), options.size, values, rngs, options.strengths)
        ground = np.full((options.size, options.size, 3), 0.5)
        if options.backgrounds:
            ground = background_of(options.object_seed, background, options.size)
        pixels = ground + alpha[:, :, None] * (rgb - ground)
        mask = (alpha >= 0.5).astype(np.uint8)
        known: dict[str, Any] = {name: int(value) if name in FLAGS else value for name, value in values.items()}
        known |= {"background": f"background {background}", "mask": mask, "boxes": [box(mask)] if mask.any() else []}
        return np.floor(255 * np.clip(pixels, 0, 1) + 0.5).astype(np.uint8), f"object {number}", known

    def extent(self) -> Extent:
        """Return the number of pictures, and a digest of the options that decide them."""
        decides = f"transforms2d {_VERSION} {self.options.model_dump_json()}"
        return Extent(self.options.images, 0, hashlib.sha256(decides.encode()).hexdigest())


__all__ = ["NAMES", "Transforms2d"]
