"""remote: images below an address: a prefix of S3, of Google Cloud Storage, of a web server, or of a folder.

`source.root` is the address: `s3://bucket/prefix`, `gs://bucket/prefix`, `https://host/prefix`, `file:///folder`. The
layouts below it are those of the folder source. Objects are listed with sizes and versions, without being read, and
fetched side by side; later stages need no network. Credentials come from the environment and from the files of the
stores' own tools, never from params.yaml.

Source: no publication; the images are the user's own.

Checked by: tests/stages/ingest/sources/test_remote.py; tests/stages/ingest/remotes/test_s3_store.py.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from reprise.config.errors import ImageRefused, SourceError
from reprise.config.params import meaning
from reprise.config.stores import StoreParams
from reprise.config.texts.addresses import granting_nothing, parse_address, problem_of
from reprise.media.image.readers.names import claims_picture
from reprise.media.lookup import modality
from reprise.storage.stores.in_order import in_order
from reprise.storage.stores.store import Object, Store, open_store
from reprise.storage.walk import LEFT_OUT
from stages.ingest.archives.members import plain_name
from stages.ingest.names.reading import LayoutParams, Names, digest_with_table
from stages.ingest.remotes.kept import Kept
from stages.ingest.remotes.names_file import read_names_file
from stages.ingest.remotes.options import settings_of
from stages.ingest.source import VIEWS_OF_PHOTOGRAPHS, Candidate, Extent, LeftOut, Part, Refused, Source

Item = Candidate | Refused | LeftOut


class Remote(Source):
    """Objects of a store of the user."""

    class Params(StoreParams, LayoutParams):
        """Options of the remote source."""

        names: Annotated[
            Annotated[str, Field(max_length=4096), AfterValidator(granting_nothing)] | None,
            meaning(
                "This text file, or the one at this address, holds a name below the root in each line. A web server "
                "needs it, since it cannot list; null reads everything below the root."
            ),
        ] = None

    reads: ClassVar[str] = "an address with images below it"
    title: ClassVar[str] = "Images below an address"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "as the owner of the images says"
    reads_root: ClassVar[bool] = False
    keeps_names: ClassVar[bool] = True
    views: ClassVar[dict[str, Any]] = VIEWS_OF_PHOTOGRAPHS

    def __init__(self, root: Path | str, options: Any) -> None:
        super().__init__(root, options)
        self._understood: list[str] = []
        self._notes: list[str] = []
        self._listed: tuple[Store, list[Object]] | None = None

    def candidates(self) -> Iterator[Item]:
        """Yield every object below the address, sorted by name; what may be an image is fetched.

        Raises:
            SourceError: the store refuses, holds nothing there, or its folders can be read in two ways.
            MachineError: the store does not answer.
        """
        store, objects = self._listing()
        judged = [(item, *self._judged(item, repeated)) for repeated in [_repeated(objects)] for item in objects]
        usable = [name for _, name, problem in judged if problem is None]
        names = Names(self.options, self.address, usable, modality_name=self.modality)
        planned: list[tuple[Object, Item]] = [
            (item, names.place(name, store.shown(item.name), "") if problem is None else problem)
            for item, name, problem in judged
        ]
        del judged, usable  # of a million objects, each is held once
        self._understood = [_said(objects), *names.understood(item for _, item in planned)]
        self._notes = _notes(objects)
        kept = Kept(self.address)

        def fetched(pair: tuple[Object, Item]) -> Item:
            item, planned = pair
            if not isinstance(planned, Candidate):
                return planned
            try:
                path = kept.fetch(store, item, self._limit())
            except ImageRefused as refusal:
                return Refused(planned.name, refusal.what, f"{refusal.found}. {refusal.fix}")
            return replace(planned, reference=Part(str(path), 0, path.stat().st_size, stays=False))

        yield from in_order(fetched, planned, store.settings)
        kept.forget_others()

    def understood(self) -> list[str]:
        """Say how much there is, and what folders mean."""
        return self._understood

    def notes(self) -> list[str]:
        """Note objects whose changes nobody can see."""
        return self._notes

    def extent(self) -> Extent:
        """Compute the digest of names, sizes and versions, without reading an object.

        The versions are ETags (S3, web servers that state one), generations (Google), or times of modification.
        """
        _, objects = self._listing()
        total = hashlib.sha256()
        for item in objects:
            line = "\0".join((item.name, str(item.size), item.version, item.problem))
            total.update(len(line).to_bytes(8, "big") + line.encode("utf-8", "surrogatepass"))
        size = sum(item.size or 0 for item in objects)
        return Extent(len(objects), size, digest_with_table(total.hexdigest(), self.options))

    def _listing(self) -> tuple[Store, list[Object]]:
        """List the objects, once for this source: what is fetched is then what was described."""
        if self._listed is None:
            if problem := problem_of(self.address):
                raise SourceError(
                    problem[0],
                    where="source.root",
                    found=self.address,
                    fix="Write an address such as s3://bucket/prefix." + problem[1],
                )
            address = parse_address(self.address)
            if "?" in address.place:
                raise SourceError(
                    "the address of a prefix has no query",
                    where="source.root",
                    found=self.address,
                    fix="Remove what follows the question mark.",
                )
            store = open_store(address, settings_of(self.options))
            if self.options.names is None:
                objects = list(store.listing())
            else:
                objects = list(store.describe(read_names_file(self.options.names, address, settings_of(self.options))))
            self._listed = store, sorted(objects, key=lambda item: item.name)
        return self._listed

    def _judged(self, item: Object, repeated: set[str]) -> tuple[str, Item | None]:
        """Return the plain name of an object, and why it is not fetched."""
        shown = f"{self.address.rstrip('/')}/{item.name}"
        name, reason, detail = plain_name(item.name)
        if reason == "nested_archive":
            reason = None  # it has no image's name
        if reason is not None:
            return name, (LeftOut if reason in LEFT_OUT else Refused)(shown, reason, detail)
        if item.problem:
            return name, (LeftOut if item.problem in LEFT_OUT else Refused)(shown, item.problem, item.detail)
        if not modality(self.modality).claims(name) and not claims_picture(name):
            detail = f"it has no {self.modality}'s name, and is not fetched"
            return name, LeftOut(shown, "other_file", detail)
        if name in repeated:
            return name, Refused(shown, "repeated_name", "several names of the store mean the same path")
        if (item.size or 0) > self._limit():
            return name, Refused(shown, "too_many_bytes", f"{item.size:,} bytes; the limit is {self._limit():,}")
        return name, None

    def _limit(self) -> int:
        from reprise.media.modality import Limits

        return Limits(self.max_pixels, 1).max_bytes


def _repeated(objects: Iterable[Object]) -> set[str]:
    counts = Counter(plain_name(item.name)[0] for item in objects)
    return {name for name, count in counts.items() if count > 1}


def _said(objects: list[Object]) -> str:
    size = sum(item.size or 0 for item in objects)
    return f"{len(objects):,} objects of {size / 1e6:,.1f} MB together."


def _notes(objects: list[Object]) -> list[str]:
    unknown = [item for item in objects if not item.version and not item.problem]
    if not unknown:
        return []
    said = (
        f"The server states neither an ETag nor a time for {len(unknown):,} objects, such as {unknown[0].name}: a "
        "change that keeps their length is not noticed, and they are fetched each time."
    )
    return [said]
