"""Options that sources of tables share: which column says what of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reprise.config.facts import FACT_NAME, MOST_FACTS, Fact
from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import with_pattern, wrong_value
from stages.ingest.names.layout import SplitName

_LONGEST = 4096
Column = Annotated[str, Field(min_length=1, max_length=200)]
BaseFolder = Annotated[
    str | None,
    Field(min_length=1, max_length=_LONGEST),
    meaning("Relative paths begin at this folder; null: at the folder of the table."),
]
Delimiter = Annotated[
    Literal[",", ";", "\t", "|"] | None,
    meaning("This character separates cells of text; null: a comma, or a tab in files named .tsv."),
]
FactName = Annotated[
    str, with_pattern(FACT_NAME.pattern, "a fact has a name of lower-case letters, digits and underscores")
]


class FactColumn(StrictModel):
    """A column that says something of an image besides its class."""

    kind: Annotated[
        Literal["number", "flag", "word", "caption", "mask", "boxes", "pose"],
        meaning(
            "The column holds finite numbers, 0 and 1 (`flag`), words, sentences (`caption`), the path or bytes of a "
            "PNG (`mask`), rows of four numbers (`boxes`) or a list of numbers (`pose`)."
        ),
    ]
    column: Annotated[Column | None, meaning("This column holds the fact; null: that of the fact's name.")] = None
    use: Annotated[
        Literal["label", "given"],
        meaning("Unsupervised runs never see a `label`; a method that reads a `given` fact is trained with it."),
    ] = "label"
    form: Annotated[
        Literal["corners", "size"],
        meaning("A box is x0, y0, x1, y1 (`corners`) or x, y, width, height (`size`), in pixels."),
    ] = "corners"
    note: Annotated[
        str, Field(max_length=300), meaning("The report shows this sentence beside the fact; it may be empty.")
    ] = ""

    @model_validator(mode="after")
    def _form_of_boxes(self) -> Self:
        if self.form != "corners" and self.kind != "boxes":
            raise wrong_value("`form` belongs to the kind `boxes`")
        return self


class LabelsColumn(StrictModel):
    """A column with several labels of each image; every label becomes a flag."""

    column: Annotated[Column, meaning("This column holds the labels: a list, or a text with a separator.")]
    names: Annotated[
        dict[FactName, Annotated[str, Field(min_length=1, max_length=200)]],
        Field(min_length=1, max_length=MOST_FACTS),
        meaning("These labels occur: the name of the flag, and the label as the column writes it."),
    ]
    separator: Annotated[
        str | None,
        Field(min_length=1, max_length=8),
        meaning("This text stands between labels, where the column holds texts; null where it holds lists."),
    ] = None
    empty: Annotated[
        Literal["unknown", "none"],
        meaning("An empty cell means that nothing is known of the labels, or that the image has none of them."),
    ] = "unknown"
    use: Annotated[
        Literal["label", "given"], meaning("As for facts: probes alone see a `label`, methods may read a `given` flag.")
    ] = "label"


class StatementOptions(StrictModel):
    """Which column says what of an image."""

    label: Annotated[Column | None, meaning("This column holds the class; an empty cell means that it is unknown.")] = (
        None
    )
    labels: Annotated[
        LabelsColumn | None, meaning("This column holds several labels of an image, each of which becomes a flag.")
    ] = None
    group: Annotated[
        Column | None,
        meaning("This column holds the group (a patient, a film), whose images stay in one split."),
    ] = None
    split: Annotated[
        Column | None, meaning("This column holds the split; images with an empty cell are divided by source.split.")
    ] = None
    split_names: Annotated[
        dict[Annotated[str, Field(max_length=200)], SplitName],
        Field(default_factory=dict),
        meaning(
            "These values of the column `split` mean train, val, test or unlabelled (part of train), besides those "
            "with a known name."
        ),
    ]
    facts: Annotated[
        dict[FactName, FactColumn],
        Field(default_factory=dict, max_length=MOST_FACTS),
        meaning("These facts of an image stand in columns: captions, numbers, words, masks, boxes."),
    ]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if self.labels and (both := sorted(self.labels.names.keys() & self.facts.keys())):
            raise wrong_value(f"a label of `labels` and a fact of `facts` have one name: {both[0]}")
        if self.split_names and self.split is None:
            raise wrong_value("`split_names` belongs to `split`, which names the column")
        if "key" in self.facts or (self.labels and "key" in self.labels.names):
            raise wrong_value("no fact has the name `key`")
        return self

    def declared(self) -> tuple[Fact, ...]:
        """Return the declarations of all facts: labels first, each a flag."""
        flags = self.labels.names.items() if self.labels else ()
        use = self.labels.use if self.labels else "label"
        return (
            *(Fact(name, "flag", use, f"Whether the image has the label '{label}'.") for name, label in flags),
            *(Fact(name, fact.kind, fact.use, fact.note) for name, fact in self.facts.items()),
        )

    def used(self) -> Iterator[tuple[str, str]]:
        """Yield each column that the options name, and what it says, in words."""
        for role in ("label", "group", "split"):
            if (column := getattr(self, role)) is not None:
                yield column, {"label": "the class"}.get(role, f"the {role}")
        if self.labels:
            yield self.labels.column, f"{len(self.labels.names)} labels"
        for name, fact in self.facts.items():
            yield fact.column or name, f"the fact {name} ({fact.kind})"


class ColumnOptions(StatementOptions):
    """Which column of a table says what, and where the files may lie that cells name."""

    link_roots: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=_LONGEST)]],
        Field(default_factory=list, max_length=100),
        meaning("Paths and links that lead into these folders are followed; others that leave the base are refused."),
    ]


def places_of(facts: Mapping[str, FactColumn]) -> list[str]:
    """Return the columns that may name files besides the images."""
    return [fact.column or name for name, fact in facts.items() if fact.kind == "mask"]
