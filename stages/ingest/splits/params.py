"""Parameters of the splits: the block `source.split` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reprise.config.params import Seed, StrictModel, meaning
from reprise.config.texts.text_forms import wrong_value

FOLDS = ("folds", "stratified_folds")


class SplitParams(StrictModel):
    """How images to which the source gives no split are divided; images of one group always stay together."""

    by: Annotated[
        Literal["hash", "random", "stratified", "folds", "stratified_folds", "given"],
        meaning(
            "The hash of the content decides (`hash`), exact shares are drawn from all images (`random`) or from each "
            "class (`stratified`), one of several parts is tested (`folds` by the hash, `stratified_folds` with equal "
            "parts of each class), or only the source decides (`given`)."
        ),
    ] = "hash"
    seed: Annotated[Seed, meaning("Another seed draws other splits.")] = 0
    folds: Annotated[int, Field(ge=2, le=100), meaning("With folds, the images are divided into so many parts.")] = 5
    fold: Annotated[
        int,
        Field(ge=0, le=99),
        meaning("With folds, this part, counted from 0, is test; it is val where the source brings a test split."),
    ] = 0
    given: Annotated[
        Literal["keep", "ignore"],
        meaning("Splits that the source gives are kept, or ignored, so that all images are divided anew."),
    ] = "keep"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.by in FOLDS and self.fold >= self.folds:
            raise wrong_value(f"with {self.folds} folds, `fold` is a number from 0 to {self.folds - 1}")
        if self.by not in FOLDS and self.fold:
            raise wrong_value("`fold` belongs to `by: folds` or `by: stratified_folds`")
        if self.by == "given" and self.given == "ignore":
            raise wrong_value("`by: given` and `given: ignore` contradict each other")
        return self
