"""Images that are bytes go to a file once they are many, and parts of files are read in place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprise.artifacts.manifest import read_manifest, read_quarantine
from stages.ingest.candidates import spool
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, Extent, Once, Part, Source, constant_extent
from tests.stages.ingest import hostile

PARAMS = SourceParams(name="bytes", val_fraction=0.0)


class Bytes(Source):
    """Images that exist only as bytes, one of them damaged."""

    title, citation, licence, views, reads_root = "bytes", "", "", {}, False

    def candidates(self) -> Iterator[Candidate]:
        for i in range(6):
            data = hostile.encoded(hostile.photo(i), "PNG")
            yield Candidate(f"{i}.png", Once(data[:-30] if i == 3 else data))

    def extent(self) -> Extent:
        return constant_extent("bytes")


def taken_in(output: Path, source: Source, workers: int = 0) -> dict[str, str]:
    output.mkdir()
    ingest(source, PARAMS, output, workers, Path("published"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in output.iterdir()}


def test_the_file_changes_no_byte_of_the_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = taken_in(tmp_path / "a", Bytes(Path("."), None))
    monkeypatch.setattr(spool, "_IN_MEMORY", 1000)
    kept = []
    keep = spool.Spool.keep

    def watched(self: spool.Spool, item: Candidate) -> object:
        kept.append(keep(self, item))
        return kept[-1]

    monkeypatch.setattr(spool.Spool, "keep", watched)
    assert taken_in(tmp_path / "b", Bytes(Path("."), None)) == in_memory
    assert any(isinstance(item.reference, Part) for item in kept)
    (refused,) = read_quarantine(tmp_path / "b/quarantine.parquet").to_pylist()
    assert (refused["path"], refused["reason"]) == ("3.png", "truncated")


class InPlace(Bytes):
    """The same images, inside one file."""

    def candidates(self) -> Iterator[Candidate]:
        items = list(super().candidates())
        contents = [item.reference.data for item in items if isinstance(item.reference, Once)]
        self.root.write_bytes(b"begin" + b"".join(contents))
        at = 5
        for item, content in zip(items, contents, strict=True):
            yield Candidate(item.name, Part(str(self.root), at, len(content)))
            at += len(content)


def test_parts_of_a_file_are_read_in_place_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "all"
    assert "images.tar" not in taken_in(tmp_path / "out", InPlace(path, None))
    manifest = read_manifest(tmp_path / "out/manifest.parquet").to_pylist()
    assert len(manifest) == 5
    assert {row["path"] for row in manifest} == {str(path)}
    content = path.read_bytes()
    for row in manifest:
        data = content[row["offset"] : row["offset"] + row["bytes"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
