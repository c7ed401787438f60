"""folder: images in a folder, read where they are.

The layouts are split/class/*, class/*, split/* or one flat folder (docs/how-to/own-images.md). Deeper folders are
allowed, and the label is the first folder below the split. Content decides what a file is
(docs/reference/data-rules.md).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from reprise.artifacts.layout import INGEST
from reprise.config.errors import SourceError
from reprise.config.params import StrictModel, meaning
from reprise.runtime.progress import Progress
from reprise.storage.listing import Entry, digest_folder, list_entries
from stages.ingest.source import SPLIT_NAMES, Candidate, Extent, Refused, Source

_PATIENCE = 2.0  # seconds before a progress bar


class Folder(Source):
    """A folder of the user."""

    class Params(StrictModel):
        """Options of the folder source."""

        layout: Annotated[
            Literal["auto", "splits", "classes", "flat"],
            meaning(
                "Paths are split/class (`splits`), class (`classes`) or mean nothing (`flat`); `auto` looks at them."
            ),
        ] = "auto"
        group: Annotated[
            Literal["none", "folder"],
            meaning("With `folder`, files of one folder below the class (a video, a patient) stay in one split."),
        ] = "none"

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

    def candidates(self) -> Iterator[Candidate | Refused]:
        """Yield every entry below the root, sorted by name."""
        self._is_apart()
        entries = list_entries(self.root)
        layout = self._layout(entries)
        for entry in entries:
            if entry.reason is not None:
                yield Refused(str(self.root / entry.text), entry.reason, entry.detail)
                continue
            *folders, _ = entry.text.split("/")
            split = None
            if layout == "splits":
                split = SPLIT_NAMES.get(folders[0].casefold()) if folders else None
                if split is None:
                    yield Refused(
                        str(self.root / entry.text),
                        "outside_splits",
                        "it lies in none of the split folders (train, val, test)",
                    )
                    continue
                folders = folders[1:]
            label = folders[0] if folders and layout != "flat" else None
            below = folders if layout == "flat" else folders[1:]
            group = "/".join([label or "", *below]) if self.options.group == "folder" and below else None
            path = str(self.root / entry.text)
            yield Candidate(path, path, split, label, group)

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
            return Extent(*digest_folder(self.root, on_entry=count_entry))
        finally:
            if bar is not None:
                bar.__exit__()

    def _is_apart(self) -> None:
        """Refuse a root that holds the artifacts: each run would change its own source and take in its own pictures."""
        root, artifacts = os.path.realpath(self.root), os.path.realpath(INGEST)
        if os.path.commonpath([root, artifacts]) == root:
            raise SourceError(
                "the root of the source holds what the graph itself writes",
                where=self.root,
                found=f"{INGEST} lies in it",
                fix="Put the images into a folder of their own, such as data/images, and set source.root to that.",
            )

    def _layout(self, entries: list[Entry]) -> str:
        """Return the layout that the options name, or derive it from the folders at the top."""
        if self.options.layout != "auto":
            return str(self.options.layout)
        top = sorted({entry.text.split("/")[0] for entry in entries if entry.reason is None and "/" in entry.text})
        splits = [name for name in top if name.casefold() in SPLIT_NAMES]
        others = [name for name in top if name.casefold() not in SPLIT_NAMES]
        if splits and not others:
            return "splits"
        if len(splits) > 1:
            raise SourceError(
                "some folders at the top are splits and some are not",
                where=self.root,
                found=f"splits {', '.join(splits)}; others {', '.join(others[:5])}",
                fix="Set source.options.layout in params.yaml: `splits` leaves the others out, `classes` takes all as "
                "names of classes.",
            )
        return "classes"
