"""What is written of each row of `shifts`: its images, and their embeddings by every run and seed.

- `<row>/images/shift.json` says what the row is. Images from elsewhere lie beside it like those of the data set: a
  manifest, a quarantine, notes, and a shard with its index. A corruption has no images of its own.
- `<row>/embed/<run>/<seed>/<set>.parquet` has the form of embeddings (reprise/artifacts/embeddings.py), with one tap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.artifacts.layout import shift_embeddings, shift_images
from reprise.artifacts.results import read_json
from reprise.config.errors import EmbeddingError
from reprise.config.shift_rows import ShiftRow
from reprise.storage.atomic import write_json

CARD = "shift.json"
SOURCE, CORRUPTION = "source", "corruption"
_FIX = "Run `dvc repro shift_images embed_shift` to write it again."


@dataclass(frozen=True)
class ShiftedFile:
    """One set of shifted images as one run and seed embeds it.

    Attributes:
        name: of the set.
        shift: the plug-in that made the images, or the source that has them.
        severity: of a corruption; None for images from elsewhere.
        embeddings: the file.
        images: the folder of `shift.json`.
        notes: sentences about the images, for the protocol of probes.
    """

    name: str
    shift: str
    severity: int | None
    embeddings: Path
    images: Path
    notes: tuple[str, ...]


def write_card(folder: Path, row: ShiftRow, notes: Sequence[str], counts: dict[str, Any] | None = None) -> None:
    """Write `shift.json`.

    Args:
        folder: of the row's images.
        row: of the table.
        notes: sentences about the images.
        counts: of images from elsewhere: found, kept, refused by reason.
    """
    kind = SOURCE if counts is not None else CORRUPTION
    write_json(folder / CARD, {"shift": row.shift, "kind": kind, "notes": list(notes), **(counts or {})})


def embedding_of_set(shift: str, run: str, seed: int, name: str) -> Path:
    """The file with the embeddings of one set of shifted images."""
    return shift_embeddings(shift) / run / str(seed) / f"{name}.parquet"


def shifted_files(rows: Sequence[ShiftRow], run: str, seed: int) -> tuple[ShiftedFile, ...]:
    """Name the embeddings of all sets of shifted images by one run and seed.

    Raises:
        EmbeddingError: one of them is missing.
        ResultError: a row's `shift.json` is missing or damaged.
    """
    found = []
    for row in rows:
        images = shift_images(row.name)
        notes = tuple(map(str, read_json(images / CARD, _FIX).get("notes", ())))
        for one in row.sets:
            path = embedding_of_set(row.name, run, seed, one.name)
            if not path.is_file():
                raise EmbeddingError("the embeddings under a shift are missing", where=path, found="no file", fix=_FIX)
            found.append(ShiftedFile(one.name, row.shift, one.severity, path, images, notes))
    return tuple(found)
