"""The base class of sources of images: a source names candidates and what it refuses; ingest decides the rest.

A source is one file in `stages/ingest/sources`, with one subclass of `Source`. Its module imports nothing heavy
(numpy, scikit-learn) at the top: `python -m stages.ingest.scan` loads it before every `repro`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from reprise.config.facts import Fact
from reprise.config.params import StrictModel
from reprise.storage.listing import read_part, too_many_bytes
from reprise.storage.walk import Entry


class Encoded(ABC):
    """An encoded image that is read, or made, when it is asked for: a member of an archive, a cell of a table.

    A source with many images yields these instead of bytes, so that no more than a few images are in memory at once.
    A subclass is a frozen dataclass of plain values: it is sent to the decoding processes.

    Attributes:
        made: whether Reprise itself writes the bytes, from values that it has checked; a few thousand such images are
            then decoded without processes of their own. False for bytes from anywhere else.
    """

    made: ClassVar[bool] = False

    @abstractmethod
    def read(self, limit: int) -> bytes:
        """Return the encoded image, the same bytes each time.

        Args:
            limit: largest length in bytes.

        Raises:
            ImageRefused: it cannot be read, with a code of docs/reference/data-rules.md; `too_many_bytes` beyond the
                limit.
        """

    def place(self) -> tuple[str, int] | None:
        """Return the file of the user in which the bytes lie as `read` returns them, and the offset of the first.

        Nothing is copied then, and the manifest names the place. None, the default, has ingest copy the bytes.
        """
        return None


# Views that suit photographs, with the strengths of SimCLR on ImageNet: most sources that hold a person's own images.
VIEWS_OF_PHOTOGRAPHS: dict[str, Any] = {
    "crop_scale_min": 0.08,
    "flip": True,
    "jitter": 1.0,
    "grey": 0.2,
    "blur": 0.5,
    "solarize": 0.0,
}


@dataclass(frozen=True)
class Part(Encoded):
    """Bytes that lie together in a file, such as a member of a tar that is not compressed.

    Attributes:
        path: of the file.
        offset: of the first byte.
        size: their number.
        stays: whether the file belongs to the user, as the files of a folder do, so that nothing has to be copied.
    """

    path: str
    offset: int
    size: int
    stays: bool = True

    def read(self, limit: int) -> bytes:
        """Read the part."""
        return read_part(self.path, self.offset, self.size, limit)

    def place(self) -> tuple[str, int] | None:
        """Return the file and the offset, if the file stays."""
        return (self.path, self.offset) if self.stays else None


@dataclass(frozen=True)
class Once(Encoded):
    """Bytes that can be read only once, such as a member of a compressed tar or an answer of a server.

    Ingest keeps them in a file as soon as they are many, so a source yields them one image after the other.
    """

    data: bytes

    def read(self, limit: int) -> bytes:
        """Return the bytes."""
        if len(self.data) > limit:
            raise too_many_bytes("an image", len(self.data), limit)
        return self.data


@dataclass(frozen=True)
class EncodedFact(ABC):
    """A large fact that is decoded when it is written, such as a mask beside its picture in a shard.

    Attributes:
        encoded: reads it.
    """

    encoded: Encoded

    @abstractmethod
    def __call__(self) -> Any:
        """Return the value of the fact."""


@dataclass(frozen=True)
class Candidate:
    """An image that may be taken in.

    Attributes:
        name: its name in messages and in the quarantine; unique, valid UTF-8.
        reference: the path of a file to read, the encoded bytes themselves, or what reads or makes them later.
        split: train, val, test, or None where the source does not state one.
        label: name of the class, or None.
        group: name of the group (video, scene, patient) whose images must stay in one split, or None.
        facts: values of the facts that the source declares, by name; what is not known is left out. A value may be a
            function without arguments that makes it, so that large ones are made one after the other.
        meant: whether the source says that it is an image. A file that is none is left out if nothing says so, neither
            the source nor its name.
    """

    name: str
    reference: str | bytes | Encoded
    split: str | None = None
    label: str | None = None
    group: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)
    meant: bool = False


@dataclass(frozen=True)
class Refused:
    """An entry of the source that is not taken in.

    Attributes:
        name: as shown in the quarantine.
        reason: a code of docs/reference/data-rules.md.
        detail: the reason as a sentence.
        sha256: of the bytes, if they were read.
    """

    name: str
    reason: str
    detail: str
    sha256: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """An entry of the source that nobody means as an image: a hidden file, a file of the system, a sidecar.

    Attributes:
        name: as shown in the table of what was left out.
        reason: a code of docs/reference/data-rules.md.
        detail: the reason as a sentence.
    """

    name: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Extent:
    """The content of a source in figures, for source.lock.json.

    Attributes:
        files: their number.
        bytes: length of all files.
        digest: hash over names and contents.
    """

    files: int
    bytes: int
    digest: str


class Source(ABC):
    """Base of all sources.

    Attributes:
        title, citation, licence: shown in the report.
        views: augmentations that suit the images (data/ingest/views.json).
        reads_root: whether the images lie at source.root; a source inside an installed package has none.
        reads: what lies at source.root, the end of the sentence "Set source.root to ...".
        hides_names: whether the names of its files may say who people are, so that no message shows them.
        root: source.root as a path.
        address: source.root as it is written, which may be a URL.
        keeps_names: whether its images, where they are no files, have names that people and miners know them by
            (reprise/artifacts/facts/names.py).
        max_pixels: `source.max_pixels`, for a source that decodes anything by itself.
        modality: the kind of sample that is wanted (source.modality), by which names of files are understood.
    """

    class Params(StrictModel):
        """Options of the source; none by default."""

    title: ClassVar[str]
    citation: ClassVar[str]
    licence: ClassVar[str]
    views: ClassVar[dict[str, Any]]
    reads_root: ClassVar[bool] = True
    reads: ClassVar[str] = "what holds your images"
    hides_names: ClassVar[bool] = False
    keeps_names: ClassVar[bool] = False
    max_pixels: int = 50_000_000
    modality: str = "image"

    def __init__(self, root: Path | str, options: Any) -> None:
        self.root, self.address, self.options = Path(root), str(root), options

    @abstractmethod
    def candidates(self) -> Iterator[Candidate | Refused | LeftOut]:
        """Yield every entry of the source, in a fixed order.

        Raises:
            SourceError: the source cannot be read at all.
        """

    @abstractmethod
    def extent(self) -> Extent:
        """Measure and hash what there is to read, without decoding it."""

    def facts(self) -> Sequence[Fact]:
        """Declare what the source says of an image besides its label; none here. The options alone decide it."""
        return ()

    def link_roots(self) -> Sequence[str]:
        """Return the folders, besides the root, into which links may lead."""
        return ()

    def files(self) -> Sequence[Entry] | None:
        """List the files that it reads, where these are not the root or all that lies below it; None otherwise."""
        return None

    def understood(self) -> list[str]:
        """Return sentences on how the source reads its names and folders; called after `candidates` is exhausted."""
        return []

    def remedies(self) -> Mapping[str, str]:
        """Return a sentence by reason of the quarantine that says what helps, where no image can be used."""
        return {}

    def notes(self) -> list[str]:
        """Return sentences for the report; called after `candidates` is exhausted."""
        return []


def constant_extent(name: str) -> Extent:
    """Return the extent of a source that is part of an installed package."""
    return Extent(0, 0, hashlib.sha256(name.encode()).hexdigest())
