"""One image from anywhere: stored as ingest and shard would store it, or refused in a sentence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reprise.artifacts.shards import Shards
from reprise.config.errors import SourceError
from reprise.media.modality import Examined
from stages.ingest import single
from stages.ingest.candidates.examine import examine_all
from stages.ingest.params import SourceParams
from stages.ingest.single import take_in
from tests.stages.ingest.hostile import encoded, photo

PARAMS = SourceParams(name="folder", max_pixels=100_000)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker costs seconds; tests/stages/ingest/test_machine.py has those of ingest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(single, "examine_all", lambda items, limits, workers: examine_all(items, limits, 0))
    Path("out").mkdir()


def taken_in(data: bytes, max_side: int = 512) -> tuple[Shards, bytes]:
    Path("image").write_bytes(data)
    take_in(Path("image"), PARAMS, max_side, Path("out"))
    shards = Shards.open("out")
    return shards, shards.read(0)


def test_a_plain_image_keeps_its_bytes_and_a_large_one_is_scaled_down() -> None:
    data = encoded(photo(1, 60, 80), "PNG")
    shards, stored = taken_in(data)
    assert stored == data
    assert (shards.widths[0], shards.heights[0], len(shards)) == (80, 60, 1)
    shards, stored = taken_in(data, max_side=40)
    assert Image.open(io.BytesIO(stored)).size == (40, 30)
    shards.verify()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"text, not an image", "not_an_image"),
        (encoded(photo(1, 60, 80), "JPEG")[:900], "truncated"),
        (encoded(photo(1, 400, 400), "PNG"), "too_many_pixels"),
    ],
    ids=["empty", "text", "cut off", "too large"],
)
def test_a_file_that_ingest_would_refuse_is_refused_in_a_sentence(data: bytes, reason: str) -> None:
    with pytest.raises(SourceError, match=rf"this image is refused.*{reason}.*[^.]\. Mend"):
        taken_in(data)


@pytest.mark.parametrize("make", ["pipe", "folder", "nothing"])
def test_what_is_no_file_is_refused_and_nothing_waits(make: str) -> None:
    import os

    if make == "pipe":
        os.mkfifo("image")
    elif make == "folder":
        Path("image").mkdir()
    with pytest.raises(SourceError, match="this image is refused"):
        take_in(Path("image"), PARAMS, 512, Path("out"))


def test_values_of_many_bits_take_the_range_of_the_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    Path("manifest").touch()
    monkeypatch.setattr(single, "MANIFEST", Path("manifest"))
    table = pa.table({"sample": ["uint16", None], "low": [10.0, None], "high": [900.0, None]})
    monkeypatch.setattr(single, "read_manifest", lambda columns: table)
    buffer = io.BytesIO()
    Image.fromarray(np.arange(20, 420, dtype=np.uint16).reshape(20, 20)).save(buffer, "PNG")
    Path("image").write_bytes(buffer.getvalue())
    seen: list[Examined] = []
    kept = single.with_range
    monkeypatch.setattr(single, "with_range", lambda *a: seen.append(kept(*a)) or seen[0])
    take_in(Path("image"), PARAMS, 512, Path("out"))
    assert (seen[0].facts["low"], seen[0].facts["high"]) == (10.0, 900.0)
