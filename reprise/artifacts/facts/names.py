"""What the source calls images that are no files: frames of a film, members of an archive, rows of a table.

The manifest says where such an image lies, which is a tar for all of them. names.parquet says what each is called, so
that targets.csv, miners and people can name one. A source whose images have names worth keeping sets `keeps_names`;
ingest then writes the table, and the stage `shard` copies it beside the tars.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from reprise.artifacts.layout import INGEST
from reprise.artifacts.tables.parquet import read_table, write_table
from reprise.config.errors import ManifestError

FILE = "names.parquet"
SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("name", pa.string(), nullable=False)])


def write_names(folder: Path, names: Iterable[tuple[str, str]]) -> None:
    """Write (key, name) of each image into names.parquet, sorted by key."""
    rows = [{"key": key, "name": name} for key, name in names]
    write_table(folder / FILE, pa.Table.from_pylist(rows, SCHEMA).sort_by("key"))


def read_names(folder: Path = INGEST) -> dict[str, str]:
    """Return key -> name; empty where the folder has no table.

    Raises:
        ManifestError: the table is damaged.
    """
    if not (folder / FILE).exists():
        return {}
    table = read_table(folder / FILE, SCHEMA, ManifestError, "Run `dvc repro ingest` to write it again.")
    return dict(zip(table["key"].to_pylist(), table["name"].to_pylist(), strict=True))


def with_names(keys: Sequence[str], paths: Sequence[str], folder: Path = INGEST) -> list[str]:
    """Return the paths of the manifest, with the names of images that are no files in place of their tar."""
    names = read_names(folder)
    return [names.get(key, path) for key, path in zip(keys, paths, strict=True)]
