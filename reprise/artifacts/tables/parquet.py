"""Parquet tables with a checked schema: written as deterministic bytes, read with a clear sentence for every defect."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from reprise.config.errors import RepriseError
from reprise.storage.atomic import atomic_file
from reprise.storage.system.machine import fault_behind

PART = 1 << 16  # rows that are read at a time where a table is not wanted whole
_MOST_BYTES = 1 << 46  # 64 TiB
_ROWS_A_BYTE = 4  # more than any table of ours: keys do not compress, while a run of one value takes no room at all


class _WithoutPandas(MetaPathFinder):
    """Lets an import of pandas fail."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ImportError("left out", name=name)


def leave_out_pandas() -> None:
    """Keep pyarrow from importing pandas on its own, for processes that hand it no frames or series.

    The first array that pyarrow makes of a list imports pandas, only to ask whether the list is a frame: 300 modules in
    every stage. pyarrow looks once and remembers that there was none. Later imports of pandas work, and so does
    `to_pandas`.
    """
    finder = _WithoutPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


def write_table(path: str | Path, table: pa.Table) -> None:
    """Write Parquet atomically; the same table gives the same bytes (no timestamps, fixed compression)."""
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd", version="2.6", use_dictionary=True, write_statistics=True)


def read_table(
    path: str | Path,
    schema: pa.Schema,
    error: type[RepriseError],
    fix: str,
    columns: list[str] | None = None,
    exact: bool = True,
    further: pa.Schema | None = None,
) -> pa.Table:
    """Read Parquet and compare it with `schema`.

    Args:
        path: the file.
        schema: columns that must be present, with these types and nullability.
        error: the error class to raise.
        fix: the last sentence of the message, which says what to do.
        columns: read only these; None reads all.
        exact: refuse further columns.
        further: columns that may be present; those that are have these types and nullability.

    Raises:
        error: the file is missing or truncated, a column is missing, unexpected or of another type, or a value is null
            where none may be.
    """
    schema = _schema_of(path, schema, error, fix, exact, further)
    with _opened(path, error, fix) as file:
        table = file.read(columns=columns)
        table.validate(full=True)  # offsets that lead elsewhere, text that is no text
    _refuse_nulls({name: table[name].null_count for name in table.column_names}, schema, path, error, fix)
    return table


def read_in_parts(
    path: str | Path, schema: pa.Schema, error: type[RepriseError], fix: str, further: pa.Schema | None = None
) -> Iterator[pa.Table]:
    """Read and check Parquet as `read_table` does, PART rows at a time, so that the whole is never in memory.

    Parts come until a value is empty that must not be; how many there are is the error at the end of the file. So who
    takes parts must take them all.
    """
    schema = _schema_of(path, schema, error, fix, True, further)
    empty: Counter[str] = Counter()
    with _opened(path, error, fix) as file:
        for batch in file.iter_batches(PART):
            batch.validate(full=True)
            empty.update({field.name: batch[field.name].null_count for field in schema if not field.nullable})
            if not empty.total():
                yield pa.Table.from_batches([batch])
    _refuse_nulls(empty, schema, path, error, fix)


def _schema_of(
    path: str | Path, schema: pa.Schema, error: type[RepriseError], fix: str, exact: bool, further: pa.Schema | None
) -> pa.Schema:
    """Compare the columns of a file with a schema, and return it with those of `further` that the file has."""
    path = Path(path)
    try:
        found = pq.read_schema(path)
        _ = found.names  # decodes them
    except (OSError, ValueError, pa.ArrowException) as problem:
        if (fault := fault_behind(problem, path)) is not None:
            raise fault from problem
        what = "the file is missing" if not path.exists() else "the file is not readable Parquet"
        raise error(what, where=path, found=_first_line(problem), fix=fix) from problem
    if further is not None:
        schema = pa.schema([*schema, *(field for field in further if field.name in found.names)])
    for field in schema:
        if field.name not in found.names:
            raise error(
                f"column '{field.name}' is missing", where=path, found=f"columns {', '.join(found.names)}", fix=fix
            )
        if found.field(field.name).type != field.type:
            raise error(
                f"column '{field.name}' must be {field.type}",
                where=path,
                found=str(found.field(field.name).type),
                fix=fix,
            )
    extra = [n for n in found.names if n not in schema.names]
    if exact and extra:
        raise error(f"unexpected column '{extra[0]}'", where=path, found=f"columns {', '.join(found.names)}", fix=fix)
    return schema


@contextmanager
def _opened(path: str | Path, error: type[RepriseError], fix: str) -> Iterator[pq.ParquetFile]:
    """Open a file to read its rows; what goes wrong then is a sentence."""
    try:
        with pq.ParquetFile(path) as file:  # pq.read_table imports pandas
            if file.metadata.num_rows > (most := _ROWS_A_BYTE * Path(path).stat().st_size):
                rows = f"{file.metadata.num_rows} rows, and a file of this length can hold {most}"
                raise error("the file is damaged", where=path, found=rows, fix=fix)
            yield file
    except (OSError, ValueError, pa.ArrowException, MemoryError) as problem:
        if not _asks_for_too_much(problem) and (fault := fault_behind(problem, Path(path))) is not None:
            raise fault from problem
        raise error("the file is damaged", where=path, found=_first_line(problem), fix=fix) from problem


def _refuse_nulls(
    empty: Mapping[str, int], schema: pa.Schema, path: str | Path, error: type[RepriseError], fix: str
) -> None:
    for field in schema:
        if not field.nullable and empty.get(field.name):
            raise error(
                f"column '{field.name}' must not have empty values",
                where=path,
                found=f"{empty[field.name]} empty",
                fix=fix,
            )


def _asks_for_too_much(problem: BaseException) -> bool:
    """Tell whether a table wants more memory at once than any machine has: then its lengths are damaged."""
    asked = [int(number) for number in re.findall(r"\d+", str(problem))] if isinstance(problem, MemoryError) else []
    return max(asked, default=0) > _MOST_BYTES


def _first_line(problem: BaseException) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]
