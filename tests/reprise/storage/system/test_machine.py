"""What the machine lacks while an artifact is read is no damage of it: no table, checkpoint or result is given up."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reprise.artifacts.results import read_json
from reprise.artifacts.tables.parquet import read_table, write_table
from reprise.artifacts.weights.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from reprise.artifacts.weights.tensors import TensorFile, write_tensors
from reprise.config.errors import MachineError, ManifestError, ResultError
from reprise.storage.atomic import write_json
from reprise.storage.system.machine import says_no_memory

SCHEMA = pa.schema([pa.field("a", pa.int64(), nullable=False)])


@contextmanager
def no_file_can_be_opened() -> Iterator[None]:
    """Those that are open stay so; the lowest free number is beyond the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def artifacts(tmp_path: Path) -> dict[str, Callable[[], object]]:
    """A function that reads each kind of artifact, all of which are whole."""
    write_table(tmp_path / "a.parquet", pa.table({"a": [1, 2]}, schema=SCHEMA))
    write_tensors(tmp_path / "a.safetensors", {"w": np.ones(3, np.float32)})
    write_json(tmp_path / "a.json", {"a": 1})
    saved = save_checkpoint(tmp_path / "work", 4, {"w": np.ones(3, np.float32)})
    return {
        "table": lambda: read_table(tmp_path / "a.parquet", SCHEMA, ManifestError, "Run it."),
        "weights": lambda: TensorFile.open(tmp_path / "a.safetensors", "Run it."),
        "results": lambda: read_json(tmp_path / "a.json"),
        "checkpoint": lambda: load_checkpoint(saved),
        "newest": lambda: latest_checkpoint(tmp_path / "work"),
    }


@pytest.mark.parametrize("kind", ["table", "weights", "results", "checkpoint"])
def test_no_open_file_is_left(artifacts: dict[str, Callable[[], object]], kind: str) -> None:
    """A checkpoint that counted as damaged would be passed over, and hours of training repeated."""
    read = artifacts[kind]
    assert read() is not None
    with no_file_can_be_opened(), pytest.raises(MachineError, match=r"not of the file.*Too many open files.*ulimit -n"):
        read()


@pytest.mark.parametrize(
    ("asked", "error"),
    [("malloc of size 6400000000 failed", MachineError), (f"malloc of {1 << 62}", ManifestError)],
)
def test_a_table_for_which_memory_is_short_and_one_whose_lengths_are_damaged(
    artifacts: dict[str, Callable[[], object]], monkeypatch: pytest.MonkeyPatch, asked: str, error: type[Exception]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError(asked)

    monkeypatch.setattr(pq.ParquetFile, "read", refused)
    with pytest.raises(error):
        artifacts["table"]()


def test_a_checkpoint_for_which_memory_is_short(
    artifacts: dict[str, Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("reprise.artifacts.weights.checkpoints._unpack", refused)
    with pytest.raises(MachineError, match="Cannot allocate memory"):
        artifacts["newest"]()


def test_a_result_that_may_not_be_read_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(ResultError, match="the file cannot be read.*Permission denied"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 12 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("std::bad_alloc"),
        ImportError("libarrow.so: failed to map segment from shared object"),
    ],
)
def test_libraries_say_in_their_own_words_that_memory_ran_out(error: BaseException) -> None:
    assert says_no_memory(error)
    assert not says_no_memory(ValueError(str(error)))
    assert not says_no_memory(RuntimeError("shapes differ"))
