"""archive: images in ZIP or tar archives, read in place, with the layouts of the folder source inside.

`source.root` is an archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz, .tar.zst) or a folder of archives. Nothing is
unpacked to disk: members that are stored as they are stay in the archive, and ingest copies the images of all others
into its own tar. What an archive is, its content decides.

Source: no publication; the images are the user's own.

Checked by: tests/stages/ingest/sources/test_archive.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from reprise.config.errors import ImageRefused, SourceError, printable
from reprise.config.params import meaning
from reprise.config.texts.suggest import nearest
from reprise.media.image.readers.names import claims_picture
from reprise.storage.listing import digest_file, digest_folder
from reprise.storage.walk import LEFT_OUT, list_entries, root_error
from stages.ingest.archives.open_archive import Archive as Opened
from stages.ingest.archives.open_archive import is_archive, open_archive, stem
from stages.ingest.names.reading import LayoutParams, Names, digest_with_table
from stages.ingest.source import VIEWS_OF_PHOTOGRAPHS, Candidate, Extent, LeftOut, Refused, Source
from stages.ingest.source_state import refuse_own_artifacts

_FETCH = "Fetch or pack it again; of a damaged archive no member is used."
_FOLDERS, _SHOWN = 10_000, 5  # folders compared with a wrong name, and shown
Item = Candidate | Refused | LeftOut


@dataclass(frozen=True)
class _Placed:
    """An archive, and the folder that its members count as lying in; empty for none."""

    archive: Opened
    folder: str


class Archive(Source):
    """Archives of the user."""

    class Params(LayoutParams):
        """Options of the archive source."""

        inside: Annotated[
            str,
            Field(max_length=4096),
            meaning("Only this folder inside each archive is read, and layouts begin below it; empty reads all of it."),
        ] = ""
        archives: Annotated[
            Literal["folders", "merged"],
            meaning(
                "Each archive of a folder of them counts as a folder of its own name without the extension "
                "(`folders`), or all count as if they were unpacked into one place (`merged`)."
            ),
        ] = "folders"

    keeps_names: ClassVar[bool] = True
    reads: ClassVar[str] = "an archive (ZIP, tar) or a folder of archives"
    title: ClassVar[str] = "Images in archives"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "as the owner of the images says"
    views: ClassVar[dict[str, Any]] = VIEWS_OF_PHOTOGRAPHS

    def __init__(self, root: Path | str, options: Any) -> None:
        super().__init__(root, options)
        self._understood: list[str] = []
        self._notes: list[str] = []

    def candidates(self) -> Iterator[Item]:
        """Yield every member that is no folder, archive by archive in the order of their names.

        Raises:
            SourceError: the root is no archive and no folder of some, is damaged, or its folders can be read in two
                ways.
        """
        opened, others = self._open_all()
        paths = [self._paths(one) for one in opened]
        if self.options.inside and not any(paths):
            raise self._nothing_inside(opened)
        way_down = "set source.options.inside to that folder"
        inside = [path for found in paths for path in found.values()]
        names = Names(self.options, self.root, inside, way_down, self.modality)
        plans = [
            {number: names.place(path, _shown(one, number), "") for number, path in found.items()}
            for one, found in zip(opened, paths, strict=True)
        ]
        self._understood = [
            self._said(opened),
            *names.understood(item for planned in plans for item in planned.values()),
        ]
        yield from others
        for one, planned in zip(opened, plans, strict=True):
            yield from self._items(one, planned)

    def understood(self) -> list[str]:
        """Say how many archives there are, and what folders in them mean."""
        return self._understood

    def notes(self) -> list[str]:
        """Note archives that are damaged or odd."""
        return self._notes

    def extent(self) -> Extent:
        """Compute the digest of names and contents of the archives, reading only those that changed."""
        if os.path.isdir(self.root):
            refuse_own_artifacts(self.root)
            files, size, digest = digest_folder(self.root)
        else:
            self._exists()
            try:
                files, size, digest = digest_file(self.root)
            except ImageRefused as refusal:
                raise self._unreadable(self.root, refusal.found) from refusal
        return Extent(files, size, digest_with_table(digest, self.options))

    def _open_all(self) -> tuple[list[_Placed], list[Item]]:
        """List the archives, and say what else lies in the folder."""
        self._notes = []
        if not os.path.isdir(self.root):
            self._exists()
            try:
                archive = open_archive(str(self.root))
            except (ValueError, ImageRefused) as error:
                raise self._unreadable(self.root, error.found if isinstance(error, ImageRefused) else error) from error
            self._note(str(self.root), archive)
            return [_Placed(archive, "")], []
        refuse_own_artifacts(self.root)
        opened: list[_Placed] = []
        others: list[Item] = []
        for entry in list_entries(self.root):
            shown = str(self.root / entry.text)
            if entry.reason is not None:
                others.append((LeftOut if entry.reason in LEFT_OUT else Refused)(shown, entry.reason, entry.detail))
                continue
            try:
                if not is_archive(shown):
                    others.append(_beside(shown))
                    continue
                archive = open_archive(shown)
            except (ValueError, ImageRefused) as error:
                others.append(self._damaged(shown, error))
                continue
            self._note(shown, archive)
            folder = stem(entry.text) if self.options.archives == "folders" else os.path.dirname(entry.text)
            opened.append(_Placed(archive, folder))
        if not opened:
            raise SourceError(
                "the folder holds no archive that can be read",
                where=self.root,
                found=others[0].name + ": " + getattr(others[0], "detail", "") if others else "nothing",
                fix="Set source.root to an archive (ZIP, tar) or a folder of archives; images that are files are read "
                "by the source `folder`.",
            )
        return opened, others

    def _nothing_inside(self, opened: list[_Placed]) -> SourceError:
        """Make the error of a folder that no archive has, with the folders that there are."""
        folders: set[str] = set()
        for one in opened:
            for member in one.archive.members:
                above = member.name.rpartition("/")[0]
                while above and above not in folders and len(folders) < _FOLDERS:
                    folders.add(above)
                    above = above.rpartition("/")[0]
        ranked = sorted(folders, key=lambda name: (name.count("/"), name))
        shown = ", ".join(printable(name, 80) for name in ranked[:_SHOWN])
        more = f" and {len(ranked) - _SHOWN:,} more" if len(ranked) > _SHOWN else ""
        there = f"Folders there: {shown}{more}." if ranked else "There are no folders: leave it empty."
        meant = printable(nearest(self.options.inside.strip("/"), ranked))
        return SourceError(
            "source.options.inside names a folder that no archive has",
            where=self.root,
            found=printable(self.options.inside, 200),
            fix=f"Write its path inside the archive. {there}{meant}",
        )

    def _exists(self) -> None:
        try:
            os.stat(self.root)
        except OSError as error:
            raise root_error(self.root, error, self.reads) from error

    def _paths(self, one: _Placed) -> dict[int, str]:
        """Return the path that each usable member counts as having, by its number."""
        found = {}
        for number, member in enumerate(one.archive.members):
            below = self._below(member.name)
            if member.reason is None and below is not None:
                found[number] = f"{one.folder}/{below}" if one.folder else below
        return found

    def _below(self, name: str) -> str | None:
        """Return a name below the folder that is read, or None outside of it."""
        inside = self.options.inside.strip("/")
        if not inside:
            return name
        return name.removeprefix(f"{inside}/") if name.startswith(f"{inside}/") else None

    def _items(self, one: _Placed, planned: dict[int, Item]) -> Iterator[Item]:
        """Yield the members of an archive: those that are refused, then the others with what reads them."""
        for number, member in enumerate(one.archive.members):
            shown = _shown(one, number)
            if member.reason is not None:
                yield (LeftOut if member.is_left_out else Refused)(shown, member.reason, member.detail)
            elif self._below(member.name) is None:
                yield LeftOut(shown, "outside_folder", "it lies outside of source.options.inside")
            elif not isinstance(planned[number], Candidate):
                yield planned[number]
        wanted = {number for number, item in planned.items() if isinstance(item, Candidate)}
        try:
            for number, reference in one.archive.contents(wanted):
                item = planned.pop(number)  # of a million members, each is held once
                assert isinstance(item, Candidate)
                yield replace(item, reference=reference)
        except (ValueError, ImageRefused) as error:  # it could be read a moment ago
            found = error.found if isinstance(error, ImageRefused) else error
            raise self._unreadable(one.archive.path, found) from error

    def _said(self, opened: list[_Placed]) -> str:
        members = sum(len(one.archive.members) for one in opened)
        said = f"{len(opened):,} archive{'s' if len(opened) > 1 else ''} with {members:,} files."
        if len(opened) > 1 and self.options.archives == "folders":
            said += f" Each counts as a folder of its own name, such as {printable(opened[0].folder, 80)}."
        return said

    def _note(self, path: str, archive: Opened) -> None:
        self._notes += [f"{path}: {note}." for note in archive.notes]

    def _damaged(self, path: str, error: ValueError | ImageRefused) -> Refused:
        found = error.found if isinstance(error, ImageRefused) else str(error)
        self._notes.append(f"{path} is damaged, and none of its members is used: {found}.")
        reason = error.what if isinstance(error, ImageRefused) else ""
        return Refused(path, reason or "damaged_archive", f"{printable(found, 300)}. {_FETCH}")

    def _unreadable(self, path: str | Path, found: object) -> SourceError:
        return SourceError("the archive cannot be read", where=path, found=printable(found, 300), fix=_FETCH)


def _shown(one: _Placed, number: int) -> str:
    return f"{one.archive.path}/{one.archive.members[number].name}"


def _beside(path: str) -> Item:
    """Say what becomes of a file in a folder of archives that is none."""
    detail = "it is no archive, and lies in a folder of archives: the source `folder` reads images that are files"
    if claims_picture(path):
        return Refused(path, "no_archive", detail)
    return LeftOut(path, "no_archive", detail)
