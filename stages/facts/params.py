"""Parameters of the facts: the block `facts` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reprise.config.facts import FACT_NAME, MOST_FACTS, Fact
from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import with_pattern

SECTION = "facts"
ColumnName = Annotated[
    str,
    with_pattern(FACT_NAME.pattern, "a column has a name of lower-case letters, digits and underscores"),
]


class ColumnParams(StrictModel):
    """What a column of targets.csv holds, and who may see it."""

    kind: Annotated[
        Literal["number", "flag", "word", "caption"],
        meaning("The column holds finite numbers, 0 and 1 (`flag`), words, or sentences (`caption`)."),
    ]
    use: Annotated[
        Literal["label", "given"],
        meaning("Unsupervised runs never see a `label`; a method that reads a `given` fact is trained with it."),
    ] = "label"
    note: Annotated[
        str, Field(max_length=300), meaning("The report shows this sentence beside the fact; it may be empty.")
    ] = ""


class FactsParams(StrictModel):
    """What targets.csv says of each image."""

    columns: Annotated[
        dict[ColumnName, ColumnParams],
        Field(max_length=MOST_FACTS),
        meaning(
            "Each of these columns of targets.csv has a kind and a use; all others hold numbers, or 0 and 1, and are "
            "labels."
        ),
    ] = Field(default_factory=dict)

    def declared(self) -> list[Fact]:
        """Return the declarations of these columns."""
        return [
            Fact(name, column.kind, column.use, column.note, "targets.csv") for name, column in self.columns.items()
        ]
