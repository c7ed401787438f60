"""Read the names of a source as the options of its layout say: split, class and group of each image.

Sources whose images have paths share it: a folder, archives, a prefix of a store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reprise.config.errors import ImageRefused, SourceError
from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import wrong_value
from reprise.media.lookup import IMAGE, NAMES, modality
from reprise.storage.listing import sha256_of
from stages.ingest.names.groups import Grouping, check_grouping, group_finder
from stages.ingest.names.layout import SplitName, understand
from stages.ingest.source import Candidate, Encoded, LeftOut, Refused

_TOO_LONG = 4096


class FolderParams(StrictModel):
    """What the folders of a source mean."""

    layout: Annotated[
        Literal["auto", "splits", "classes", "flat"],
        meaning(
            "Folders at the top are splits (`splits`), classes (`classes`) or mean nothing (`flat`); `auto` looks "
            "at their names and asks where these can be read in two ways."
        ),
    ] = "auto"
    splits: Annotated[
        dict[str, SplitName],
        Field(default_factory=dict),
        meaning(
            "These folders at the top are splits, besides those with a known name: each is train, val, test or "
            "unlabelled (part of train)."
        ),
    ]
    labels: Annotated[
        Literal["auto", "none", "folders", "parent"],
        meaning(
            "The class is the first folder below the split (`folders`), the last one (`parent`), or there is none "
            "(`none`); `auto` takes folders of one level as classes and asks about anything else."
        ),
    ] = "auto"

    @model_validator(mode="after")
    def _splits_fit(self) -> Self:
        """Refuse folders that mean two things at once."""
        if self.layout in ("classes", "flat") and self.splits:
            raise wrong_value(f"with layout `{self.layout}` there are no splits to name")
        if self.layout == "flat" and self.labels not in ("auto", "none"):
            raise wrong_value("with layout `flat` folders mean nothing, so they cannot be labels")
        return self


class LayoutParams(FolderParams):
    """Options of a source whose images have paths."""

    group: Annotated[
        Literal["none", "folder", "pattern", "table"],
        meaning(
            "Images of one group (a video, a patient) stay in one split; the group is a folder below the class, "
            "what a regular expression finds in the path, or a column of a table."
        ),
    ] = "none"
    group_level: Annotated[
        int, Field(ge=1, le=100), meaning("With `group: folder`, this folder counted from the class is the group.")
    ] = 1
    group_pattern: Annotated[
        str | None,
        Field(max_length=1000),
        meaning(
            "With `group: pattern`, the first group of this regular expression, searched in the path below the "
            "root, is the group."
        ),
    ] = None
    group_table: Annotated[
        str | None,
        Field(max_length=_TOO_LONG),
        meaning("With `group: table`, this file (CSV, or TSV by its extension) names the group of each image."),
    ] = None
    group_image: Annotated[
        str, Field(min_length=1, max_length=200), meaning("This column of the table holds the end of the path.")
    ] = "image"
    group_column: Annotated[
        str, Field(min_length=1, max_length=200), meaning("This column of the table holds the group.")
    ] = "group"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse options of groups that contradict each other or leave out what another one needs."""
        for rule in ("pattern", "table"):
            if (getattr(self, f"group_{rule}") is not None) != (self.group == rule):
                raise wrong_value(f"group `{rule}` and group_{rule} belong together")
        if self.group_pattern is not None:
            try:
                re.compile(self.group_pattern)
            except re.error as error:
                raise wrong_value(f"group_pattern is no regular expression: {error}") from error
        return self


class Names:
    """The meaning of the paths of a source.

    Args:
        options: of the source.
        root: for messages.
        names: paths of all files below the root, parts joined by "/".
        way_down: tells how to leave out a folder that holds everything, the end of a sentence.
        modality_name: the kind of sample whose names count.

    Raises:
        SourceError: the names can be read in two ways, or the table of groups cannot be used.
    """

    def __init__(
        self,
        options: LayoutParams,
        root: Path | str,
        names: Sequence[str],
        way_down: str = "set source.root to that folder instead",
        modality_name: str = IMAGE,
    ) -> None:
        self._root, self._claims = root, modality(modality_name).claims
        self._layout = understand(
            [name for name in names if self._claims(name)] or names,
            root,
            options.layout,
            options.labels,
            options.splits,
            options.group == "folder",
            way_down,
        )
        table = None if options.group_table is None else Path(options.group_table)
        self._grouping = Grouping(
            options.group, options.group_level, options.group_pattern, table, options.group_image, options.group_column
        )
        self._group_of = group_finder(self._grouping, names)

    def place(self, name: str, shown: str, reference: str | bytes | Encoded) -> Candidate | Refused | LeftOut:
        """Make the candidate of a file; what lies in no split is refused, or left out where its name claims nothing.

        Args:
            name: its path below the root.
            shown: its name in messages.
            reference: its content.
        """
        place = self._layout.place(name)
        if place is None:
            detail = "it lies in no folder that is a split (source.options.splits names further ones)"
            if not any(modality(kind).claims(name) for kind in NAMES):
                return LeftOut(shown, "other_file", f"it has no name of a sample, and {detail}")
            return Refused(shown, "outside_splits", detail)
        split, label, below = place
        return Candidate(shown, reference, split, label, self._group_of(name, below))

    def understood(self, items: Iterable[object]) -> list[str]:
        """Say what folders and groups mean.

        Raises:
            SourceError: the options say what a group is, and no candidate has one.
        """
        candidates = [item for item in items if isinstance(item, Candidate) and self._claims(item.name)]
        said = check_grouping(self._grouping, candidates, self._root)
        return [*self._layout.sentences, *([said] if said else [])]


def digest_with_table(digest: str, options: LayoutParams) -> str:
    """Add the content of the table of groups, which may lie anywhere, to the digest of a source.

    Raises:
        SourceError: the table cannot be read.
    """
    if options.group_table is None:
        return digest
    try:
        table, _ = sha256_of(Path(options.group_table).expanduser())
    except ImageRefused as refusal:
        raise SourceError(
            "the table of groups cannot be read",
            where=options.group_table,
            found=refusal.found,
            fix="Correct source.options.group_table in params.yaml.",
        ) from refusal
    return hashlib.sha256(f"{digest} {table}".encode()).hexdigest()
