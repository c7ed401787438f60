"""The table `shifts`: images on which every run is judged besides its own test split.

A shift is either a corruption, which changes the images of the scored split (`{name: fog3, shift: fog, severity: 3}`),
or a source, which has images of the same classes from elsewhere (`{name: site_b, shift: folder, root: ../site_b}`).
Which of the two a row means follows from the kind of plug-in that has the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from reprise.config.params import StrictModel, meaning
from reprise.config.plug_ins.registry import names
from reprise.config.texts.addresses import granting_nothing
from reprise.config.texts.text_forms import Name, plug_in_name, with_pattern, wrong_value

SEVERITIES = 5
Severity = Annotated[int, Field(ge=1, le=SEVERITIES)]


@dataclass(frozen=True)
class ShiftedSet:
    """One set of shifted images: a row of `shifts`, or one of the severities that a row lists.

    Attributes:
        name: how probes and metrics call it.
        severity: of a corruption, from 1 to 5; None for images from elsewhere.
    """

    name: str
    severity: int | None


class ShiftRow(StrictModel):
    """A row of `shifts`: how the scored images are changed, or where other images of the same classes lie."""

    name: Annotated[Name, meaning("Probes and metrics call the shifted images by this name.")]
    shift: Annotated[
        str,
        plug_in_name("shifts"),
        meaning("This corruption changes the images of the scored split, or this source has other images."),
    ]
    severity: Annotated[
        Severity | Annotated[list[Severity], Field(min_length=1, max_length=SEVERITIES)] | None,
        meaning(
            "A corruption has this severity, from 1 to 5. A list makes a set of images of each, called by the name of "
            "the row and the severity; a source has none."
        ),
    ] = None
    root: Annotated[
        Annotated[
            str,
            Field(max_length=4096),
            with_pattern(r"[^\x00]+", "a path has at least one character, and no NUL"),
            AfterValidator(granting_nothing),
        ]
        | None,
        meaning("A source reads this folder, file or address; a corruption has none."),
    ] = None
    options: Annotated[
        dict[str, Any],
        Field(default_factory=dict),
        meaning("The parameters of the corruption or of the source stand in this block."),
    ]

    @field_validator("severity", mode="after")
    @classmethod
    def _each_once(cls, value: int | list[int] | None) -> int | list[int] | None:
        if isinstance(value, list) and len(set(value)) < len(value):
            raise wrong_value("a severity may be listed only once")
        return value

    @property
    def is_source(self) -> bool:
        """Whether the images come from elsewhere; a name that no plug-in has counts as a corruption."""
        return self.shift in names("sources")

    @property
    def sets(self) -> tuple[ShiftedSet, ...]:
        """The sets of shifted images that the row stands for."""
        if isinstance(self.severity, list):
            return tuple(ShiftedSet(f"{self.name}{severity}", severity) for severity in self.severity)
        return (ShiftedSet(self.name, self.severity),)
