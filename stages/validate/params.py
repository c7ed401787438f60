"""Parameters of validation: the block `validate` of params.yaml. Suite entries name these thresholds as `$name`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reprise.config.params import StrictModel

SECTION = "validate"


class ValidateParams(StrictModel):
    """Thresholds of stages/validate/suite.json.

    Attributes:
        min_train_images: number of images in train; fewer are an error.
        min_classes: number of classes in train, where labels exist; fewer are an error.
        min_images_per_class: number of images of each class in train; fewer are an error.
        max_imbalance: images of the largest class over those of the smallest in train; more is a warning.
        max_quarantined: share of the files found that may be refused; more is an error.
    """

    min_train_images: Annotated[int, Field(ge=1, le=1_000_000_000)] = 100
    min_classes: Annotated[int, Field(ge=1, le=1_000_000_000)] = 2
    min_images_per_class: Annotated[int, Field(ge=1, le=1_000_000_000)] = 5
    max_imbalance: Annotated[float, Field(ge=1)] = 100.0
    max_quarantined: Annotated[float, Field(ge=0, le=1)] = 0.05
