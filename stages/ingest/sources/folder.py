"""folder: images in a folder, read where they are.

The layouts are split/class/*, class/*, split/* or one flat folder (docs/how-to/own-images.md). What can be read in two
ways is asked for; what was understood is stated. Content decides what a file is (docs/reference/data-rules.md).

Source: no publication; the images are the user's own.

Checked by: tests/stages/ingest/sources/test_folder.py; tests/stages/ingest/names/test_layout.py.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from reprise.artifacts.layout import IMAGES, INGEST
from reprise.config.errors import ImageRefused, SourceError
from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import wrong_value
from reprise.storage.listing import digest_folder, sha256_of
from reprise.storage.progress import Progress
from reprise.storage.walk import LEFT_OUT, Entry, list_entries
from stages.ingest.names.groups import Grouping, check_grouping, group_finder
from stages.ingest.names.layout import SplitName, understand
from stages.ingest.names.pictures import claims_picture
from stages.ingest.source import Candidate, Extent, LeftOut, Refused, Source

_PATIENCE = 2.0  # seconds before a progress bar
_TOO_LONG = 4096


class Folder(Source):
    """A folder of the user."""

    class Params(StrictModel):
        """Options of the folder source."""

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
        link_roots: Annotated[
            list[Annotated[str, Field(min_length=1, max_length=_TOO_LONG)]],
            Field(default_factory=list, max_length=100),
            meaning("Links that lead into these folders are followed; other links that leave the root are refused."),
        ]

        @model_validator(mode="after")
        def _whole(self) -> Self:
            """Refuse options that contradict each other or leave out what another one needs."""
            if self.layout in ("classes", "flat") and self.splits:
                raise wrong_value(f"with layout `{self.layout}` there are no splits to name")
            if self.layout == "flat" and self.labels not in ("auto", "none"):
                raise wrong_value("with layout `flat` folders mean nothing, so they cannot be labels")
            for rule in ("pattern", "table"):
                if (getattr(self, f"group_{rule}") is not None) != (self.group == rule):
                    raise wrong_value(f"group `{rule}` and group_{rule} belong together")
            if self.group_pattern is not None:
                try:
                    re.compile(self.group_pattern)
                except re.error as error:
                    raise wrong_value(f"group_pattern is no regular expression: {error}") from error
            return self

    title: ClassVar[str] = "Images in a folder"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "as the owner of the images says"
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.08,
        "flip": True,
        "jitter": 1.0,
        "grey": 0.2,
        "blur": 0.5,
        "solarize": 0.0,
    }

    def __init__(self, root: Path | str, options: Any) -> None:
        super().__init__(root, options)
        self._understood: list[str] = []
        self._notes: list[str] = []

    def candidates(self) -> Iterator[Candidate | Refused | LeftOut]:
        """Yield every entry below the root, sorted by name.

        Raises:
            SourceError: the root cannot be read, or its folders can be read in two ways.
        """
        self._is_apart()
        entries = list_entries(self.root, self.link_roots())
        files = [entry for entry in entries if entry.reason is None]
        pictures = [entry.text for entry in files if claims_picture(entry.text)] or [entry.text for entry in files]
        layout = understand(
            pictures,
            self.root,
            self.options.layout,
            self.options.labels,
            self.options.splits,
            self.options.group == "folder",
        )
        grouping = self._grouping()
        group_of = group_finder(grouping, [entry.text for entry in files])
        placed: list[Candidate | Refused | LeftOut] = []
        for entry in entries:
            path = str(self.root / entry.text)
            place = layout.place(entry.text)
            if entry.reason is not None:
                placed.append((LeftOut if entry.reason in LEFT_OUT else Refused)(path, entry.reason, entry.detail))
            elif place is None:
                detail = "it lies in no folder that is a split (source.options.splits names further ones)"
                placed.append(Refused(path, "outside_splits", detail))
            else:
                split, label, below = place
                placed.append(Candidate(path, path, split, label, group_of(entry.text, below)))
        said = check_grouping(
            grouping, [c for c in placed if isinstance(c, Candidate) and claims_picture(c.name)], self.root
        )
        self._understood = [*layout.sentences, *([said] if said else [])]
        self._notes = _notes_on_links(entries)
        yield from placed

    def link_roots(self) -> tuple[str, ...]:
        """Return the folders that the options name."""
        return tuple(self.options.link_roots)

    def understood(self) -> list[str]:
        """Say what the folders mean and what a group is."""
        return self._understood

    def notes(self) -> list[str]:
        """Note folders that cannot be listed, and links that are not followed."""
        return self._notes

    def extent(self) -> Extent:
        """Compute the digest of names and contents, without reading unchanged files again."""
        self._is_apart()
        began, bar, done = time.monotonic(), None, 0

        def count_entry() -> None:
            nonlocal bar, done
            done += 1
            if bar is None and time.monotonic() - began > _PATIENCE:
                bar = Progress("scan", None, "files", done=done)
            if bar is not None:
                bar.advance(1)

        try:
            files, size, digest = digest_folder(self.root, on_entry=count_entry, link_roots=self.link_roots())
        finally:
            if bar is not None:
                bar.__exit__()
        return Extent(files, size, self._with_table(digest))

    def _with_table(self, digest: str) -> str:
        """Add the content of the table of groups, which may lie anywhere, to the digest."""
        if self.options.group_table is None:
            return digest
        try:
            table, _ = sha256_of(Path(self.options.group_table).expanduser())
        except ImageRefused as refusal:
            raise SourceError(
                "the table of groups cannot be read",
                where=self.options.group_table,
                found=refusal.found,
                fix="Correct source.options.group_table in params.yaml.",
            ) from refusal
        return hashlib.sha256(f"{digest} {table}".encode()).hexdigest()

    def _grouping(self) -> Grouping:
        options = self.options
        table = None if options.group_table is None else Path(options.group_table)
        return Grouping(
            options.group, options.group_level, options.group_pattern, table, options.group_image, options.group_column
        )

    def _is_apart(self) -> None:
        """Refuse a root that holds the artifacts: each run would change its own source and take in its own pictures."""
        root, artifacts = os.path.realpath(self.root), os.path.realpath(INGEST)
        if os.path.commonpath([root, artifacts]) == root:
            raise SourceError(
                "the root of the source holds what the graph itself writes",
                where=self.root,
                found=f"{INGEST} lies in it",
                fix=f"Put the images into a folder of their own, such as {IMAGES}, and set source.root to that.",
            )


def _notes_on_links(entries: list[Entry]) -> list[str]:
    notes = []
    unlisted = [entry for entry in entries if entry.reason == "unreadable" and "listed" in entry.detail]
    notes += [f"{entry.text}: {entry.detail}." for entry in unlisted[:5]]
    outside = [entry for entry in entries if entry.reason == "outside_root"]
    if outside:
        targets = sorted({os.path.dirname(os.path.realpath(entry.path)) for entry in outside})
        shown = ", ".join(os.fsdecode(target) for target in targets[:3])
        more = f" and {len(targets) - 3:,} more folders" if len(targets) > 3 else ""
        notes.append(
            f"{len(outside):,} links leave the root and are not followed. They lead into {shown}{more}: "
            "source.options.link_roots names the folders into which links may lead."
        )
    return notes
