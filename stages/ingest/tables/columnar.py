"""Parquet files and Arrow streams, read a batch at a time, only the columns that are used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stages.ingest.tables.rows import BadRow, Row, TablePart, damaged, top

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_FETCH = "Fetch the file again, or write it again."
_ROWS, _ROWS_OF_BYTES = 4096, 32  # of a batch; encoded images may have megabytes each
_LFS = b"version https://git-lfs"


class ColumnarPart(TablePart):
    """A file whose columns have types."""

    def schema(self) -> pa.Schema:
        """Return names, types and metadata.

        Raises:
            SourceError: the file cannot be read.
        """
        import pyarrow as pa

        self._check_start()
        try:
            return self._schema()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged(self.path, error, _FETCH) from error

    def columns(self) -> list[str]:
        """Return the names of the columns."""
        return list(self.schema().names)

    def read(self, columns: Sequence[str]) -> Iterator[Row | BadRow]:
        """Yield the rows; they are numbered from 1."""
        import pyarrow as pa

        schema = self.schema()
        tops = {column: top(column, schema.names) or column for column in columns}
        fields = {column: column[len(own) + 1 :].split(".") if column != own else [] for column, own in tops.items()}
        read = list(dict.fromkeys(tops.values()))
        size = _ROWS_OF_BYTES if any(_holds_bytes(schema.field(name).type) for name in read) else _ROWS
        number = 0
        try:
            for batch in self._batches(read, size):
                for start in range(0, batch.num_rows, size):
                    for cells in _cells(batch.slice(start, size)):
                        number += 1
                        where = f"{self.shown}: row {number}"
                        if cells is None:
                            yield BadRow(where, "not_utf8", "a cell holds bytes that are not UTF-8")
                            continue
                        yield Row(where, {c: _field(cells[tops[c]], fields[c]) for c in columns})
        except (pa.ArrowException, OSError) as error:
            raise damaged(self.path, f"{error}, after row {number:,}", _FETCH) from error

    def may_name_files(self, column: str) -> bool:
        """Bytes alone name no file."""
        import pyarrow as pa

        schema = self.schema()
        kind = schema.field(column).type if column in schema.names else None
        return kind is None or not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    def columns_of_bytes(self) -> list[str]:
        """Return the columns that hold bytes, alone or with a path."""
        import pyarrow as pa

        def holds(kind: pa.DataType) -> bool:
            if pa.types.is_struct(kind):
                return {kind.field(i).name for i in range(kind.num_fields)} == {"bytes", "path"}
            return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

        return [field.name for field in self.schema() if holds(field.type)]

    def _schema(self) -> pa.Schema:
        raise NotImplementedError

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError

    def _check_start(self) -> None:
        """Refuse what stands for a file in a git repository without being it."""
        try:
            with open(self.path, "rb") as file:
                start = file.read(len(_LFS))
        except OSError as error:
            raise damaged(self.path, error.strerror, "Give yourself read permission on it.") from error
        if start == _LFS:
            raise damaged(self.path, "a pointer of Git LFS, which stands for the file", "Run `git lfs pull`.")


class ParquetPart(ColumnarPart):
    """A Parquet file."""

    def _schema(self) -> pa.Schema:
        import pyarrow.parquet as pq

        return pq.read_schema(self.path)

    def may_name_files(self, column: str) -> bool:
        """Bytes alone name no file, nor does a struct of bytes and path if every row has bytes."""
        import pyarrow.parquet as pq

        return super().may_name_files(column) and not self._all_hold_bytes(pq.read_metadata(self.path), column)

    @staticmethod
    def _all_hold_bytes(metadata: pq.FileMetaData, column: str) -> bool:
        """Look at the counts of nulls that the file states for `<column>.bytes`."""
        leaves = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
        if f"{column}.bytes" not in leaves:
            return False
        i = leaves.index(f"{column}.bytes")
        groups = (metadata.row_group(g).column(i).statistics for g in range(metadata.num_row_groups))
        return all(s is not None and s.has_null_count and s.null_count == 0 for s in groups)

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        # Without buffers of a stated size, and with those that are filled ahead, whole row groups would be in memory.
        with pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as file:
            yield from file.iter_batches(size, columns=list(columns), use_threads=False)


class ArrowPart(ColumnarPart):
    """A stream of Arrow, as `datasets` saves it, or a file of Arrow."""

    def _schema(self) -> pa.Schema:
        with self._open() as reader:
            return reader.schema

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        with self._open() as reader:
            streamed = not hasattr(reader, "num_record_batches")
            batches = reader if streamed else (reader.get_batch(i) for i in range(reader.num_record_batches))
            for batch in batches:
                # What a stream says of its own offsets is not checked as it is read, and wrong ones end the process.
                batch.validate(full=True)
                yield batch.select(list(columns))

    def _open(self) -> Any:
        import pyarrow as pa

        with open(self.path, "rb") as file:
            whole = file.read(6) == b"ARROW1"
        # Not mapped into memory: a mapped file that is cut short while it is read would end the process.
        source = pa.OSFile(str(self.path), "rb")
        return pa.ipc.open_file(source) if whole else pa.ipc.open_stream(source)


def features_of(part: ColumnarPart) -> dict[str, Any]:
    """Return what Hugging Face wrote into a file about its columns: name -> feature; empty where there is nothing."""
    metadata = part.schema().metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _cells(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | None]:
    """Yield the rows of a batch as Python values; None for one with text that is not UTF-8."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass
    for i in range(batch.num_rows):
        try:
            (row,) = batch.slice(i, 1).to_pylist()
        except UnicodeDecodeError:
            yield None
        else:
            yield row


def _field(value: Any, path: Sequence[str]) -> Any:
    """Return a field of a struct; null where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_list(kind))
