"""Read the bytes of an image again that was examined: they are stored, so they must be the same ones."""

from __future__ import annotations

import hashlib

from reprise.config.errors import ImageRefused, InputsChanged
from stages.ingest.candidates.examine import read
from stages.ingest.candidates.select import Image


def bytes_of(row: Image) -> bytes:
    """Return the bytes that were examined.

    Raises:
        InputsChanged: they are no longer there, or others are.
    """
    if isinstance(row.candidate.reference, bytes):
        return row.candidate.reference
    try:
        data = read(row.candidate.reference, row.bytes)
    except ImageRefused as refusal:
        raise _changed(row, f"{refusal.what}: {refusal.found}") from refusal
    if hashlib.sha256(data).hexdigest() != row.sha256:
        raise _changed(row, "other bytes than were examined")
    return data


def _changed(row: Image, found: str) -> InputsChanged:
    return InputsChanged(
        "an image changed while it was taken in",
        where=row.candidate.name,
        found=found,
        fix="Run `reprise repro` again when nobody writes to the source.",
    )
