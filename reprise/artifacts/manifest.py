"""What ingest writes: manifest, quarantine, the table of what was left out, and notes.

The manifest has a row for each image, sorted by key; the quarantine a row for each refused file; the table of what was
left out one for each hidden file, file of the system, or file that is no picture and has no picture's name; the notes
one for each thing that was changed in an image on the way in.

`key` is the first 24 hexadecimal digits of the SHA-256 of the file's bytes, so it depends on neither names nor the
order of a listing. `path`, `offset` and `bytes` locate the encoded image: a file of its own (offset 0), a member of
a plain tar that ingest wrote, or a part of an archive of the source that is read in place.

From `width` to `high` the columns are those of images (reprise/media/image/fields.py); a test compares the two. A
manifest of another modality says so in the column `modality`, and has the columns of that modality besides.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from reprise.artifacts.layout import LEFT_OUT, MANIFEST, NOTES, QUARANTINE
from reprise.artifacts.tables.parquet import read_table, write_table
from reprise.config.errors import ManifestError

KEY_DIGITS = 24
SPLITS = ("train", "val", "test")
_SCORED = ("test", "val")  # preferred first

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),  # of the image's first byte in the file
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=True),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("channels", pa.int8(), nullable=False),  # bands
        pa.field("format", pa.string(), nullable=False),  # JPEG, PNG, WEBP, BMP, TIFF, GIF, AVIF, HEIC
        pa.field("plain", pa.bool_(), nullable=False),  # any decoder shows the same pixels
        pa.field("pixels", pa.string(), nullable=False),  # SHA-256 of the decoded pixels, by which copies are found
        pa.field("page", pa.int32(), nullable=True),  # which page or frame, from 1; null where the file has one
        pa.field("bands", pa.string(), nullable=True),  # which bands, from 1 ("4,3,2"); null for all
        pa.field("sample", pa.string(), nullable=True),  # type of the values, such as uint16; null for 8 bits
        pa.field("low", pa.float64(), nullable=True),  # the value that becomes black; null for 8 bits
        pa.field("high", pa.float64(), nullable=True),  # the value that becomes white
        pa.field("sha256", pa.string(), nullable=False),  # of the file
        pa.field("group", pa.string(), nullable=True),  # of the data: a patient, a video
    ]
)
FURTHER_SCHEMA = pa.schema(  # columns of other modalities than images; a manifest of images has none of them
    [
        pa.field("modality", pa.string(), nullable=False),  # the same in all rows
        pa.field("depth", pa.int32(), nullable=False),  # slices of a volume
        pa.field("spacing", pa.string(), nullable=True),  # "dz,dy,dx", in the unit of the file; null where unknown
    ]
)
IMAGE = "image"  # the modality of a data set that states none
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # as found; undecodable bytes escaped as \xNN
        pa.field("reason", pa.string(), nullable=False),  # a short code: empty, truncated, duplicate, ...
        pa.field("detail", pa.string(), nullable=False),  # a sentence
        pa.field("sha256", pa.string(), nullable=True),
    ]
)
LEFT_OUT_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # hidden, system_file, other_file
        pa.field("detail", pa.string(), nullable=False),
    ]
)
NOTES_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # of the manifest
        pa.field("path", pa.string(), nullable=False),  # as the source names it
        pa.field("note", pa.string(), nullable=False),  # a short code: turned, transparency, range, clipped, page, ...
        pa.field("detail", pa.string(), nullable=False),  # what was changed, as a clause
    ]
)
_FIX = "Run `dvc repro ingest` to write it again."


def scored_split(splits: Iterable[str]) -> str:
    """Return the split on which results are reported: test, or val where there is no test split, or else train.

    Args:
        splits: the split of each image, or the names of the splits that have images.
    """
    present = set(splits)
    return next((split for split in _SCORED if split in present), "train")


def write_manifest(path: str | Path, table: pa.Table) -> None:
    """Write rows sorted by key. Columns that may be empty may be left out.

    Raises:
        ManifestError: repeated keys, or a split that is not train, val or test.
    """
    for column in MANIFEST_SCHEMA:
        if column.nullable and column.name not in table.column_names:
            table = table.append_column(column, pa.nulls(table.num_rows, column.type))
    schema = pa.schema([*MANIFEST_SCHEMA, *(field for field in FURTHER_SCHEMA if field.name in table.column_names)])
    table = table.select(schema.names).cast(schema).sort_by("key")
    _check(table, path)
    write_table(path, table)


def read_manifest(path: str | Path = MANIFEST, columns: list[str] | None = None) -> pa.Table:
    """Read and check a manifest; rows are sorted by key.

    Args:
        path: the file.
        columns: read only these; None reads all.

    Raises:
        ManifestError: missing, damaged, of another schema, repeated keys, unknown split.
    """
    table = read_table(path, MANIFEST_SCHEMA, ManifestError, _FIX, columns, further=FURTHER_SCHEMA)
    _check(table, path)
    return table


def modality_of(table: pa.Table) -> str:
    """Return the modality of all rows of a manifest, or of the index of shards."""
    if "modality" not in table.column_names or not table.num_rows:
        return IMAGE
    return str(table["modality"][0].as_py())


def write_quarantine(path: str | Path, table: pa.Table) -> None:
    """Write the refused files, sorted by path and reason."""
    write_table(path, table.cast(QUARANTINE_SCHEMA).sort_by([("path", "ascending"), ("reason", "ascending")]))


def read_quarantine(path: str | Path = QUARANTINE) -> pa.Table:
    """Read and check a quarantine table."""
    return read_table(path, QUARANTINE_SCHEMA, ManifestError, _FIX)


def write_left_out(path: str | Path, table: pa.Table) -> None:
    """Write what was left out, sorted by path."""
    write_table(path, table.cast(LEFT_OUT_SCHEMA).sort_by("path"))


def read_left_out(path: str | Path = LEFT_OUT) -> pa.Table:
    """Read and check the table of what was left out."""
    return read_table(path, LEFT_OUT_SCHEMA, ManifestError, _FIX)


def write_notes(path: str | Path, table: pa.Table) -> None:
    """Write what was changed on the way in, sorted by note and key."""
    write_table(path, table.cast(NOTES_SCHEMA).sort_by([("note", "ascending"), ("key", "ascending")]))


def read_notes(path: str | Path = NOTES) -> pa.Table:
    """Read and check a table of notes."""
    return read_table(path, NOTES_SCHEMA, ManifestError, _FIX)


def _check(table: pa.Table, path: str | Path) -> None:
    if "key" in table.column_names:
        repeated = table.num_rows - pc.count_distinct(table["key"]).as_py()
        if repeated:
            raise ManifestError("keys must be unique", where=path, found=f"{repeated} repeated keys", fix=_FIX)
    if "modality" in table.column_names and table.num_rows:
        stated = sorted(table["modality"].unique().to_pylist())
        if len(stated) > 1:
            raise ManifestError("a data set has one modality", where=path, found=" and ".join(stated), fix=_FIX)
    if "split" in table.column_names:
        unknown = sorted(set(table["split"].unique().to_pylist()) - set(SPLITS))
        if unknown:
            raise ManifestError("a split must be train, val or test", where=path, found=", ".join(unknown), fix=_FIX)
