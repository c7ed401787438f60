"""The files of a table: one, or the parts in a folder, all of one form."""

from __future__ import annotations

import os
from pathlib import Path

from reprise.config.errors import SourceError
from reprise.storage.walk import root_error
from stages.ingest.tables.columnar import ParquetPart
from stages.ingest.tables.places import missing
from stages.ingest.tables.rows import TablePart, columns_shown
from stages.ingest.tables.text import TextPart

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PARQUET = (".parquet", ".pq")


def parts_of(root: Path, delimiter: str | None) -> list[TablePart]:
    """List the files of a table, sorted by name.

    Args:
        root: a file, or a folder with files of the form .csv, .tsv or .parquet directly in it.
        delimiter: between cells of text; None: as the name of the file says.

    Raises:
        SourceError: there is none, or they have several forms.
    """
    if not root.exists():
        raise missing(root)
    if not root.is_dir():
        return [_part(root, delimiter)]
    try:
        names = sorted(name for name in os.listdir(root) if not name.startswith("."))
    except OSError as error:
        raise root_error(root, error) from error
    found = [name for name in names if _form(name) and (root / name).is_file()]
    forms = {_form(name) for name in found}
    if not found:
        raise missing(root)
    if len(forms) > 1:
        raise SourceError(
            "the parts of a table have one form",
            where=root,
            found=columns_shown(found),
            fix="Set source.root in params.yaml to the file that you mean, or move the others away.",
        )
    return [_part(root / name, delimiter) for name in found]


def _form(name: str) -> str:
    extension = os.path.splitext(name)[1].casefold()
    return ".parquet" if extension in _PARQUET else extension if extension in _DELIMITERS else ""


def _part(path: Path, delimiter: str | None) -> TablePart:
    form = _form(path.name)
    if form == ".parquet":
        return ParquetPart(path, path.name)
    if form or delimiter:
        return TextPart(path, path.name, delimiter or _DELIMITERS[form])
    raise SourceError(
        "it is not clear what kind of table this is",
        where=path,
        found=f"the name {path.name}",
        fix="Give it the ending .csv, .tsv or .parquet, or name the separator of cells in source.options.delimiter.",
    )
