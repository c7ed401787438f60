"""Parameters of ingest: the block `source` of params.yaml."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from reprise.artifacts import layout
from reprise.config.params import MOST_BANDS, StrictModel, meaning
from reprise.config.texts.addresses import granting_nothing
from reprise.config.texts.text_forms import plug_in_name, with_pattern, wrong_value
from reprise.media.lookup import IMAGE, ModalityName
from stages.ingest.splits.params import SplitParams

if TYPE_CHECKING:
    from reprise.media.modality import Choices, Limits

SECTION = "source"
_PILLOW_LIMIT = 178_956_970  # pixels; Pillow refuses larger images itself


_TO_EXPAND = re.compile(r"~|.*\$(\{[A-Za-z_]\w*\}|[A-Za-z_]\w*)|.*%[A-Za-z_]\w*%")


def _written_out(value: str) -> str:
    """Refuse a path that only a shell would expand: the same text would mean another folder for each user."""
    if _TO_EXPAND.match(value) and not value.startswith("./"):
        raise wrong_value(
            "`~` and environment variables are not expanded in params.yaml: they differ from machine to machine",
            f" Write the path itself, or link it: `ln -s TARGET {layout.IMAGES.as_posix()}`. If the name really has "
            "this sign, begin the path with `./`.",
        )
    return value


Root = Annotated[
    str,
    Field(max_length=4096),
    with_pattern(r"[^\x00]+", "a path has at least one character, and no NUL"),
    AfterValidator(_written_out),
    AfterValidator(granting_nothing),
]


class SourceParams(StrictModel):
    """Where images come from and which of them are taken in."""

    name: Annotated[str, plug_in_name("sources"), meaning("This source finds the images.")]
    root: Annotated[
        Root, meaning("The source reads this folder, file or address; a source inside an installed package needs none.")
    ] = layout.IMAGES.as_posix()
    modality: Annotated[
        ModalityName,
        meaning(
            "Files hold samples of this kind, all of a data set the same: pictures (`image`), or blocks of values in "
            "three dimensions as .npy or NIfTI (`volume`). Files of the other kind are refused."
        ),
    ] = IMAGE
    val_fraction: Annotated[
        float, Field(ge=0, le=0.5), meaning("This share of train becomes val, in the way that `split` names.")
    ] = 0.1
    test_fraction: Annotated[
        float,
        Field(ge=0, le=0.5),
        meaning("This share becomes test, in the way that `split` names, where the source brings no test split."),
    ] = 0.2
    split: Annotated[
        SplitParams, Field(default_factory=SplitParams), meaning("This is how images are divided into splits.")
    ]
    max_pixels: Annotated[
        int,
        Field(ge=1, le=_PILLOW_LIMIT),
        meaning(
            "Images with more pixels (width x height), and volumes with more values, are refused, because they may be "
            "decompression bombs.",
            "pixels",
        ),
    ] = 50_000_000
    min_side: Annotated[int, Field(ge=1, le=4096), meaning("Images with a shorter side are refused.", "pixels")] = 4
    pages: Annotated[
        Literal["first", "middle", "all"],
        meaning("This page or frame of each file is taken, or all of them, each an image and a file's images a group."),
    ] = "first"
    bands: Annotated[
        Annotated[list[Annotated[int, Field(ge=1, le=MOST_BANDS)]], Field(min_length=1, max_length=MOST_BANDS)] | None,
        meaning("These bands of each image are taken, counted from 1, in this order; null takes all."),
    ] = None
    range: Annotated[
        Literal["auto", "declared", "observed", "percentiles", "given"],
        meaning(
            "This rule says which values of more than 8 bits become black and white, for all images of one type alike."
        ),
    ] = "auto"
    range_percentiles: Annotated[
        list[Annotated[float, Field(ge=0, le=100)]],
        Field(min_length=2, max_length=2),
        meaning("With the range `percentiles`, these count in each image in place of its extremes.", "percent"),
    ] = Field(default_factory=lambda: [0.1, 99.9])
    range_given: Annotated[
        Annotated[list[float], Field(min_length=2, max_length=2)] | None,
        meaning("With the range `given`, these values become black and white."),
    ] = None
    near_copies: Annotated[
        Literal["same_split", "keep_one", "report"],
        meaning(
            "Images that are nearly the same picture go into one split where the source gives none (`same_split`), or "
            "all but one of them are refused (`keep_one`), or they are only stated (`report`)."
        ),
    ] = "same_split"
    options: Annotated[
        dict[str, Any], Field(default_factory=dict), meaning("The parameters of the source itself stand in this block.")
    ]

    @model_validator(mode="after")
    def _range_fits(self) -> Self:
        if (self.range == "given") != (self.range_given is not None):
            raise wrong_value("range_given belongs to `range: given`: set both or neither")
        for name in ("range_percentiles", "range_given"):
            pair = getattr(self, name)
            if pair is not None and pair[0] >= pair[1]:
                raise wrong_value(f"the first number of {name} is the lower one")
        return self

    @model_validator(mode="after")
    def _of_the_modality(self) -> Self:
        if self.modality == IMAGE:
            return self
        if self.pages != "first":
            raise wrong_value(f"a file of a {self.modality} has no pages, so there are none to choose: leave pages out")
        if self.near_copies == "keep_one":
            raise wrong_value(f"near-copies of {self.modality}s are not looked for, so near_copies cannot be keep_one")
        return self

    @property
    def choices(self) -> Choices:
        """What is taken of files that hold more than a picture of 8 bits."""
        from reprise.media.modality import Choices

        low, high = self.range_percentiles
        given = (self.range_given[0], self.range_given[1]) if self.range_given else None
        return Choices(self.pages, tuple(self.bands or ()), self.range, (low, high), given)

    @property
    def limits(self) -> Limits:
        """What files may hold, and what is taken of them."""
        from reprise.media.modality import Limits

        return Limits(self.max_pixels, self.min_side, self.choices, self.modality)
