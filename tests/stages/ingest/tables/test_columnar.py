"""Damaged Parquet and Arrow: an error with a sentence, or other cells, and never the end of the process."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reprise.config.errors import SourceError
from stages.ingest.tables.columnar import ArrowPart, ColumnarPart, ParquetPart
from stages.ingest.tables.rows import Row

TABLE = pa.table(
    {
        "image": [{"bytes": bytes(range(200)), "path": f"{i}.png"} for i in range(40)],
        "label": [f"class {i % 3}" for i in range(40)],
        "list": [[i, i + 1] for i in range(40)],
    }
)


def write(path: Path) -> ColumnarPart:
    if path.suffix == ".parquet":
        pq.write_table(TABLE, path, row_group_size=10)
        return ParquetPart(path, path.name)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, TABLE.schema) as writer:
        for batch in TABLE.to_batches(10):
            writer.write_batch(batch)
    return ArrowPart(path, path.name)


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_damage_is_an_error_or_other_cells(tmp_path: Path, name: str) -> None:
    """Streams of Arrow state their offsets, and wrong ones ended the process before they were checked."""
    part = write(tmp_path / name)
    whole = part.path.read_bytes()
    ends: Counter[str] = Counter()
    for seed in range(120):
        rng = random.Random(seed)
        data = bytearray(whole)
        for _ in range(rng.choice([1, 2, 20])):
            data[rng.randrange(8, len(data))] = rng.randrange(256)
        part.path.write_bytes(data if seed % 4 else data[: rng.randrange(8, len(data))])
        try:
            rows = list(part.rows(["image", "label", "list"]))
        except SourceError as error:
            ends["error"] += name in str(error)
        else:
            ends["rows"] += 1
            assert len(rows) <= 40
    assert ends["error"] > 20
    assert ends["rows"] > 0


def test_a_file_of_arrow_is_read_as_a_stream_is(tmp_path: Path) -> None:
    stream = write(tmp_path / "s.arrow")
    with pa.OSFile(str(tmp_path / "f.arrow"), "wb") as file, pa.ipc.new_file(file, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=7)
    first = [row.cells for row in stream.rows(["image.path", "label"]) if isinstance(row, Row)]
    second = [row.cells for row in ArrowPart(tmp_path / "f.arrow", "f").rows(["image.path", "label"])]  # type: ignore[union-attr]
    assert first == second
    assert first[3] == {"image.path": "3.png", "label": "class 0"}
