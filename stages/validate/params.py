"""Parameters of validation: the block `validate` of params.yaml. Suite entries name these thresholds as `$name`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reprise.config.params import StrictModel, meaning

SECTION = "validate"


class ValidateParams(StrictModel):
    """Thresholds of stages/validate/suite.json."""

    min_train_images: Annotated[
        int, Field(ge=1, le=1_000_000_000), meaning("Fewer images in train are an error.", "images")
    ] = 100
    min_classes: Annotated[
        int,
        Field(ge=1, le=1_000_000_000),
        meaning("Fewer classes in train are an error, where labels exist.", "classes"),
    ] = 2
    min_images_per_class: Annotated[
        int, Field(ge=1, le=1_000_000_000), meaning("Fewer images of any class in train are an error.", "images")
    ] = 5
    max_imbalance: Annotated[
        float,
        Field(ge=1),
        meaning("More images in the largest class of train than this many times the smallest are a warning."),
    ] = 100.0
    max_quarantined: Annotated[
        float,
        Field(ge=0, le=1),
        meaning("It is an error if a larger share of the files found was refused; copies do not count."),
    ] = 0.05
