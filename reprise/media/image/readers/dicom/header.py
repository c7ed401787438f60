"""Read what must be known of a DICOM file before its pixels: whose it is, what is in it, and whether it can be decoded.

pydicom quotes what it reads in its errors and warnings, and that may be a name: none of its words is passed on.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from reprise.config.errors import ImageRefused, SourceError
from reprise.storage.listing import open_regular

_PREAMBLE = 128
_MAGIC = b"DICM"
_DIRECTORY = "1.2.840.10008.1.3.10"  # the class of a DICOMDIR
_DEFLATED = "1.2.840.10008.1.2.1.99"
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")  # a code string; anything else may be a text about a person
_TAGS = (
    *(
        "SOPClassUID",
        "PatientID",
        "StudyInstanceUID",
        "Rows",
        "Columns",
        "NumberOfFrames",
        "SamplesPerPixel",
    ),
    *("BitsAllocated", "PhotometricInterpretation", "BurnedInAnnotation"),
    *("Modality", "BodyPartExamined", "ViewPosition", "Laterality", "ImageLaterality"),
)


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels.

    Attributes:
        patient: the patient's ID in one case and without its issuer, which often only some of the files of a person
            name: two patients in one group cost nothing, one patient in two splits would. Empty where there is none.
        study: identifier of the study; empty where the file names none.
        rows, columns: of a frame; 0 where the file holds no picture.
        frames: their number.
        burned_in: YES, NO, or empty where the file does not say whether the pixels show text about the patient.
        codes: modality, body_part, view_position and laterality, where the file has a plain code there.
        transfer_syntax: identifier of how the pixels are written.
    """

    patient: str
    study: str
    rows: int
    columns: int
    frames: int
    burned_in: str
    codes: dict[str, str]
    transfer_syntax: str


def require_pydicom() -> None:
    """Raise a SourceError with what to install where pydicom is not there."""
    import importlib.util

    if importlib.util.find_spec("pydicom") is None:
        raise SourceError(
            "DICOM files are read with pydicom, which is not installed",
            where="source.name",
            found="no module pydicom",
            fix="Install the extra: `pip install 'reprise[dicom]'`.",
        )


def read_header(path: bytes | str) -> Header:
    """Read the header of one file.

    Raises:
        ImageRefused: not_dicom, unsupported_compression, undecodable; or as `open_regular`.
    """
    with opened(path) as file:
        check_start(file)
        with private_errors("its header"):
            import pydicom

            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
            syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
            read = _described(header, syntax)
            index = header.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY
    if syntax == _DEFLATED:
        raise ImageRefused(
            "unsupported_compression",
            where="a DICOM file",
            found="the whole file is compressed (Deflated Explicit VR)",
            fix="Convert it, for instance with `gdcmconv`.",
        )
    if "SOPClassUID" not in header and not index:
        raise ImageRefused(
            "truncated",
            where="a DICOM file",
            found="no class of the object, which every file states: its header may end too early",
            fix="Export it again.",
        )
    return read


@contextmanager
def opened(path: bytes | str) -> Iterator[Any]:
    """Open a regular file, never a device, as a file object."""
    with open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        yield file


def check_start(file: Any) -> None:
    """Refuse a file that does not begin as DICOM files do; leave it at its beginning."""
    start = file.read(_PREAMBLE + len(_MAGIC))
    file.seek(0)
    if start[_PREAMBLE:] != _MAGIC:
        found = "no bytes" if not start else "no DICM at byte 128"
        raise ImageRefused("not_dicom", where="a DICOM file", found=found, fix="Every DICOM file has it.")


@contextmanager
def private_errors(what: str) -> Iterator[None]:
    """Replace every error of pydicom by one that quotes nothing, and silence its warnings."""
    import pydicom

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ImageRefused, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  pydicom raises anything on hostile files
        found = f"{what} cannot be read ({type(error).__name__})"
        raise ImageRefused("undecodable", where="a DICOM file", found=found, fix="Export it again.") from None


def _described(header: Any, syntax: str) -> Header:
    codes = {
        "modality": header.get("Modality"),
        "body_part": header.get("BodyPartExamined"),
        "view_position": header.get("ViewPosition"),
        "laterality": header.get("ImageLaterality") or header.get("Laterality"),
    }
    return Header(
        str(header.get("PatientID") or "").strip().casefold(),
        str(header.get("StudyInstanceUID") or "").strip(),
        int(header.get("Rows") or 0),
        int(header.get("Columns") or 0),
        max(1, int(header.get("NumberOfFrames") or 1)),
        str(header.get("BurnedInAnnotation") or "").strip().upper(),
        {name: text for name, value in codes.items() if (text := str(value or "").strip()) and _CODE.fullmatch(text)},
        syntax,
    )
