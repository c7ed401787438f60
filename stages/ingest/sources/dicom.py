"""dicom: medical images in a folder tree of DICOM files; the images of one patient always stay in one split.

Nothing that says who a patient is reaches an artifact or a message: the group is a digest of the patient's ID, images
are called after the digest of their file, and of the header only codes are taken that the options name. Folders mean
nothing unless `folders` says what they are. Needs the extra `reprise[dicom]`.

Source: "Digital Imaging and Communications in Medicine", NEMA PS3 / ISO 12052; no publication, the images are yours.

Checked by: tests/stages/ingest/known/test_dicom.py.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from reprise.config.errors import ImageRefused, SourceError
from reprise.config.facts import Fact
from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import wrong_value
from reprise.storage.listing import digest_of, hash_files
from reprise.storage.walk import LEFT_OUT, Entry, list_entries
from stages.ingest.known.official_files import whole_file
from stages.ingest.names.layout import SPLIT_NAMES, UNLABELLED
from stages.ingest.source import Candidate, Encoded, Extent, LeftOut, Refused, Source

if TYPE_CHECKING:
    from reprise.media.image.readers.dicom.header import Header

_EXTENSIONS = (".dcm", ".dicom", ".ima")
_SPLITS = {name: split for name, split in SPLIT_NAMES.items() if split != UNLABELLED}
_KEY_BYTES = (16, 4096)
_LEAST_OF_FRAME = 8  # bytes: a compressed one has at least the head of its item
_DIGITS = 24  # of the digests that name images
Code = Literal["modality", "body_part", "view_position", "laterality"]
_CODES: tuple[Code, ...] = ("modality", "body_part", "view_position", "laterality")


@dataclass(frozen=True)
class DicomFrame(Encoded):
    """A frame of a DICOM file.

    Attributes:
        path: of the file; it is never shown.
        frame: its number, from 0.
        rescale, window: as in the options.
        stamp: size and times of the file when it was hashed.
    """

    path: bytes
    frame: int
    rescale: bool
    window: Literal["none", "file"] | tuple[float, float]
    stamp: tuple[int, int, int]

    def read(self, limit: int) -> bytes:
        """Return the frame as a TIFF without compression."""
        from reprise.media.image.readers.dicom.values import frame_as_tiff

        if _stamp(self.path) != self.stamp:
            raise ImageRefused(
                "changed_while_reading", where="a DICOM file", found="another file than was listed", fix="Run again."
            )
        return frame_as_tiff(self.path, self.frame, self.rescale, self.window, limit)


class Dicom(Source):
    """DICOM files below a folder."""

    class Params(StrictModel):
        """Options of dicom."""

        folders: Annotated[
            list[Literal["split", "class", "skip"]],
            Field(default_factory=list, max_length=20),
            meaning(
                "This is what the folders mean, from the root down: the split (train, val, test), the class, or "
                "nothing; an empty list takes no notice of folders, whose names may be those of patients."
            ),
        ]
        label: Annotated[
            Literal["none", "folder", "modality", "body_part", "view_position", "laterality"],
            meaning("The class is that of `folders`, or this code of the header; `none` gives no classes."),
        ] = "none"
        facts: Annotated[
            list[Code],
            Field(default_factory=list, max_length=len(_CODES)),
            meaning("These codes of the header become facts of the image, for probes."),
        ]
        rescale: Annotated[
            bool,
            meaning("Stored numbers become the modality's values (Hounsfield units), by its slope or table."),
        ] = True
        window: Annotated[
            Literal["none", "file", "given"],
            meaning(
                "A window makes 8 bits of the values: the first one of each file, or one given for all; with `none`, "
                "source.range decides for all images together."
            ),
        ] = "none"
        window_given: Annotated[
            Annotated[list[float], Field(min_length=2, max_length=2)] | None,
            meaning("With `window: given`, these are its centre and width."),
        ] = None
        frames: Annotated[
            Literal["refuse", "first", "middle", "all"],
            meaning("Files of several frames are refused, or this frame of them is taken, or all."),
        ] = "refuse"
        burned_in: Annotated[
            Literal["refuse", "keep"],
            meaning("Images that say that text about the patient is burned into their pixels are refused, or kept."),
        ] = "refuse"
        without_patient: Annotated[
            Literal["refuse", "study"],
            meaning("Images without a patient's ID are refused, or those of one study are a group."),
        ] = "refuse"
        key_file: Annotated[
            str | None,
            Field(max_length=4096),
            meaning(
                "The digests of patients' IDs are made with the secret in this file, of 16 bytes or more, so that "
                "nobody without it can try out IDs."
            ),
        ] = None

        @model_validator(mode="after")
        def _whole(self) -> Self:
            """Refuse options that contradict each other or leave out what another one needs."""
            if (self.label == "folder") != ("class" in self.folders):
                raise wrong_value("label `folder` and a folder that means the class belong together")
            if any(self.folders.count(part) > 1 for part in ("split", "class")):
                raise wrong_value("only one folder can be the split, and one the class")
            if (self.window == "given") != (self.window_given is not None):
                raise wrong_value("window `given` and window_given belong together")
            if self.window_given is not None and self.window_given[1] <= 0:
                raise wrong_value("the second number of window_given, its width, is positive")
            return self

    reads: ClassVar[str] = "a folder of DICOM files"
    title: ClassVar[str] = "DICOM files"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "as the owner of the images says"
    hides_names: ClassVar[bool] = True
    keeps_names: ClassVar[bool] = True
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.3,
        "flip": False,
        "jitter": 0.4,
        "grey": 0.0,
        "blur": 0.5,
        "solarize": 0.0,
    }

    def __init__(self, root: Path, options: Any) -> None:
        super().__init__(root, options)
        self._understood: list[str] = []
        self._notes: list[str] = []

    def facts(self) -> Sequence[Fact]:
        """Declare the codes that the options name."""
        words = {"modality": "Modality", "body_part": "Body part", "view_position": "View", "laterality": "Side"}
        return tuple(
            Fact(name, "word", "label", f"{words[name]}, as the header has it.") for name in self.options.facts
        )

    def candidates(self) -> Iterator[Candidate | Refused | LeftOut]:
        """Yield the frames of all files, in the order of the files' paths.

        Raises:
            SourceError: the root cannot be read, pydicom is missing, or the key cannot be read.
        """
        from reprise.media.image.readers.dicom.header import require_pydicom

        require_pydicom()
        key, seen, counts = self._key(), Counter[str](), Counter[str]()
        entries = list_entries(self.root)
        stamps = {entry.name: _stamp(entry.path) for entry in entries if entry.reason is None}
        hashes = self._hashes(entries)
        for number, entry in enumerate(entries, start=1):
            content = hashes.get(_digest(entry.name))
            if entry.reason is not None or not isinstance(content, tuple):
                yield _unread(number, entry, content)
                continue
            name = f"dicom/{content[0][:_DIGITS]}"
            seen[name] += 1
            name += f" (copy {seen[name]})" if seen[name] > 1 else ""
            try:
                yield from self._of_file(name, entry, stamps[entry.name], key, counts)
            except ImageRefused as refusal:
                yield _refused(name, entry, refusal, content[0])
        self._say(counts, key)

    def understood(self) -> list[str]:
        """Say how many patients there are, and how they are called."""
        return self._understood

    def notes(self) -> list[str]:
        """Note images that do not say whether text is burned in, and those that keep it."""
        return self._notes

    def extent(self) -> Extent:
        """Hash all files, reading only those that changed; neither the digest nor the notes hold a name."""
        entries = list_entries(self.root)
        hashes = self._hashes(entries)
        contents = [(_digest(e.name).encode(), _code_of(e, hashes.get(_digest(e.name)))) for e in entries]
        key = self._key()
        if key is not None:
            contents.append((b"key", hmac.new(key, b"extent", "sha256").hexdigest()))
        size = sum(value[1] for value in hashes.values() if isinstance(value, tuple))
        return Extent(len(entries), size, digest_of(contents))

    def _hashes(self, entries: Sequence[Entry]) -> dict[str, tuple[str, int] | ImageRefused]:
        files = {_digest(entry.name): entry.path for entry in entries if entry.reason is None}
        return hash_files(files, os.path.realpath(os.fsencode(self.root)))

    def _key(self) -> bytes | None:
        if self.options.key_file is None:
            return None
        least, most = _KEY_BYTES
        key = whole_file(Path(self.options.key_file), most)
        if len(key) < least:
            raise SourceError(
                f"the key has at least {least} bytes",
                where="source.options.key_file",
                found=f"{len(key)} bytes",
                fix=f"Make one, for instance with `head -c 32 /dev/urandom > {self.options.key_file}`.",
            )
        return key

    def _of_file(
        self, name: str, entry: Entry, stamp: tuple[int, int, int], key: bytes | None, counts: Counter[str]
    ) -> Iterator[Candidate | Refused | LeftOut]:
        """Yield the frames of one file.

        Raises:
            ImageRefused: it is not taken in.
        """
        from reprise.media.image.readers.dicom.header import read_header

        header = read_header(entry.path)
        if not header.rows or not header.columns:
            yield LeftOut(name, "no_pixels", "it is a DICOM file without a picture")
            return
        split, folder = self._place(entry)
        if (defect := self._defect(name, header, stamp[0])) is not None:
            yield defect
            return
        group = self._group(header, key)
        codes = header.codes | ({"folder": folder} if folder else {})
        facts = {fact: codes[fact] for fact in self.options.facts if fact in codes}
        counts[f"burned {header.burned_in or 'unknown'}"] += 1
        counts[f"group {group}"] += 1
        window = tuple(self.options.window_given) if self.options.window == "given" else self.options.window
        for frame in self._frames(header.frames):
            own = name if header.frames == 1 else f"{name} (frame {frame + 1})"
            reference = DicomFrame(entry.path, frame, self.options.rescale, window, stamp)
            yield Candidate(own, reference, split, codes.get(self.options.label), group, facts)

    def _place(self, entry: Entry) -> tuple[str | None, str | None]:
        """Return the split and the class that the folders state.

        Raises:
            ImageRefused: a folder is missing, or is no split.
        """
        parts = entry.text.split("/")[:-1]
        if len(parts) < len(self.options.folders):
            found = f"{len(parts)} folders above it, where source.options.folders has {len(self.options.folders)}"
            raise ImageRefused(
                "outside_classes", where="a DICOM file", found=found, fix="Move it, or correct the option."
            )
        named = dict(zip(self.options.folders, parts, strict=False))
        split = named.get("split")
        if split is not None and split.casefold() not in _SPLITS:
            raise ImageRefused(
                "outside_splits", where="a DICOM file", found="a folder that is no split", fix="Call it train or test."
            )
        return None if split is None else _SPLITS[split.casefold()], named.get("class")

    def _defect(self, name: str, header: Header, size: int) -> Refused | None:
        """Say why a file is not taken, or return None."""
        from reprise.media.image.readers.dicom.values import undecodable_syntax

        if (syntax := undecodable_syntax(header.transfer_syntax)) is not None:
            return Refused(
                name,
                "unsupported_compression",
                f"no decoder for {syntax} is installed; convert the file, or install one",
            )
        if header.frames > 1 and header.frames * _LEAST_OF_FRAME > size:
            return Refused(
                name, "truncated", f"it states {header.frames:,} frames, more than a file of {size:,} bytes can hold"
            )
        if header.frames > 1 and self.options.frames == "refuse":
            return Refused(
                name, "several_frames", f"it has {header.frames:,} frames; source.options.frames takes one or all"
            )
        if header.burned_in == "YES" and self.options.burned_in == "refuse":
            return Refused(name, "burned_in", "it says that text about the patient is burned into its pixels")
        if not header.patient and (self.options.without_patient == "refuse" or not header.study):
            return Refused(name, "no_patient", "it names no patient, so nobody knows in which split it may lie")
        return None

    def _group(self, header: Header, key: bytes | None) -> str:
        kind, text = ("patient", header.patient) if header.patient else ("study", header.study)
        data = f"reprise {kind}\0{text}".encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(data) if key is None else hmac.new(key, data, "sha256")
        return f"{kind} {digest.hexdigest()[:_DIGITS]}"

    def _frames(self, count: int) -> range:
        if count == 1 or self.options.frames == "first":
            return range(1)
        return range(count // 2, count // 2 + 1) if self.options.frames == "middle" else range(count)

    def _say(self, counts: Counter[str], key: bytes | None) -> None:
        groups = [name for name in counts if name.startswith("group ")]
        patients = sum(name.startswith("group patient") for name in groups)
        how = "with the key of source.options.key_file" if key else "without a key, so who knows an ID can recognise it"
        self._understood = [f"A group is a patient: {patients:,}, called by digests of their IDs, {how}."]
        if patients < len(groups):
            self._understood.append(f"Images without a patient's ID: {len(groups) - patients:,} studies are groups.")
        if self.options.label == "none":
            self._understood.append("Images have no classes (source.options.label).")
        self._notes = []
        if unknown := counts["burned unknown"]:
            self._notes.append(
                f"{unknown:,} files do not say whether text about a patient is burned into their pixels."
            )
        if kept := counts["burned YES"]:
            self._notes.append(
                f"{kept:,} files say that text about the patient is burned in, and are kept all the same."
            )


def _digest(name: bytes) -> str:
    return hashlib.sha256(name).hexdigest()


def _stamp(path: bytes) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (-1, -1, -1)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _code_of(entry: Entry, content: tuple[str, int] | ImageRefused | None) -> str:
    if entry.reason is not None:
        return entry.reason
    return content[0] if isinstance(content, tuple) else content.what if content else "unreadable"


def _unread(number: int, entry: Entry, content: tuple[str, int] | ImageRefused | None) -> Refused | LeftOut:
    """Describe an entry that is no file to read, by its place in the sorted listing: its name may be a patient's."""
    kind = LeftOut if entry.reason in LEFT_OUT else Refused
    detail = "its name is not shown, because it may say who a patient is"
    return kind(f"dicom/entry {number}", _code_of(entry, content), detail)


def _refused(name: str, entry: Entry, refusal: ImageRefused, sha256: str) -> Refused | LeftOut:
    if refusal.what == "not_dicom" and not entry.text.casefold().endswith(_EXTENSIONS):
        return LeftOut(name, "other_file", "it is no DICOM file and has no such name")
    return Refused(name, refusal.what, f"{refusal.found}. {refusal.fix}", sha256)
