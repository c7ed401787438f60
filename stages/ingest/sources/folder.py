"""folder: images or volumes in a folder, read where they are.

The layouts are split/class/*, class/*, split/* or one flat folder (docs/how-to/own-images.md). What can be read in two
ways is asked for; what was understood is stated. Content decides what a file is (docs/reference/data-rules.md).

Source: no publication; the images are the user's own.

Checked by: tests/stages/ingest/sources/test_folder.py; tests/stages/ingest/names/test_layout.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from reprise.config.errors import printable
from reprise.config.facts import Fact
from reprise.config.params import meaning
from reprise.media.lookup import modality
from reprise.media.video.container import claims_film
from reprise.storage.listing import digest_folder
from reprise.storage.progress import Progress
from reprise.storage.walk import LEFT_OUT, Entry, list_entries
from stages.ingest.names.caption_files import CaptionFiles, read_caption_files
from stages.ingest.names.reading import LayoutParams, Names, digest_with_table
from stages.ingest.source import VIEWS_OF_PHOTOGRAPHS, Candidate, Extent, LeftOut, Refused, Source
from stages.ingest.source_state import refuse_own_artifacts

_PATIENCE = 2.0  # seconds before a progress bar
_TOO_LONG = 4096


class Folder(Source):
    """A folder of the user."""

    class Params(LayoutParams):
        """Options of the folder source."""

        link_roots: Annotated[
            list[Annotated[str, Field(min_length=1, max_length=_TOO_LONG)]],
            Field(default_factory=list, max_length=100),
            meaning("Links that lead into these folders are followed; other links that leave the root are refused."),
        ]
        captions: Annotated[
            Literal["none", "txt"],
            meaning("With `txt`, the lines of the text file beside an image (a.jpg.txt or a.txt) are its captions."),
        ] = "none"

    reads: ClassVar[str] = "a folder with images (JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, HEIC)"
    title: ClassVar[str] = "Images in a folder"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "as the owner of the images says"
    views: ClassVar[dict[str, Any]] = VIEWS_OF_PHOTOGRAPHS

    def __init__(self, root: Path | str, options: Any) -> None:
        super().__init__(root, options)
        self._understood: list[str] = []
        self._notes: list[str] = []

    def candidates(self) -> Iterator[Candidate | Refused | LeftOut]:
        """Yield every entry below the root, sorted by name.

        Raises:
            SourceError: the root cannot be read, or its folders can be read in two ways.
        """
        refuse_own_artifacts(self.root)
        entries = list_entries(self.root, self.link_roots())
        found = [entry.text for entry in entries if entry.reason is None]
        names = Names(self.options, self.root, found, modality_name=self.modality)
        texts = self._caption_files(entries)
        placed: list[Candidate | Refused | LeftOut] = []
        for entry in entries:
            path = str(self.root / entry.text)
            if entry.reason is not None:
                placed.append((LeftOut if entry.reason in LEFT_OUT else Refused)(path, entry.reason, entry.detail))
            elif entry.text in texts.refused:
                placed.append(texts.refused[entry.text])
            elif entry.text not in texts.files:
                item = names.place(entry.text, path, path)
                said = texts.captions.get(entry.text)
                placed.append(replace(item, facts={"caption": said}) if said and isinstance(item, Candidate) else item)
        self._understood = [*names.understood(placed), *([texts.said] if self.options.captions == "txt" else [])]
        self._notes = [*_notes_on_links(entries), *_note_on_films(found)]
        yield from placed

    def facts(self) -> Sequence[Fact]:
        """Declare the captions that lie beside the images; they come with them, so methods may read them."""
        caption = Fact("caption", "caption", "given", "The text file beside the image.")
        return (caption,) if self.options.captions == "txt" else ()

    def _caption_files(self, entries: list[Entry]) -> CaptionFiles:
        if self.options.captions == "none":
            return CaptionFiles()
        files = [entry for entry in entries if entry.reason is None]
        shown = {entry.text: str(self.root / entry.text) for entry in files}
        return read_caption_files(files, shown, modality(self.modality).claims)

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
        refuse_own_artifacts(self.root)
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
        return Extent(files, size, digest_with_table(digest, self.options))


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


def _note_on_films(names: list[str]) -> list[str]:
    films = [name for name in names if claims_film(name)]
    example = f"for instance {printable(films[0], 120)}" if films else ""
    return [f"{len(films):,} files have the name of a film, {example}: the source `video` reads films."] * bool(films)
