"""Images that are read or made when they are asked for: taken in like files, in bounded memory, and never changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts.manifest import read_manifest, read_quarantine
from reprise.config.errors import ImageRefused, InputsChanged
from reprise.media.image.encode import uncompressed_png
from stages.ingest import ingest as ingesting
from stages.ingest.ingest import ingest
from stages.ingest.near.sketches import SketchFile
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, Encoded, Extent, Refused, Source

reads: list[int] = []


@dataclass(frozen=True)
class Cell(Encoded):
    """Picture number `index`; some cannot be read, and some are other ones when they are read again."""

    index: int
    changes: bool = False
    made = True

    def read(self, limit: int) -> bytes:
        reads.append(self.index)
        if self.index == 3:
            raise ImageRefused("truncated", where="cell 3", found="half of it", fix="Fetch it again")
        again = reads.count(self.index) > 1 and self.changes
        rng = np.random.default_rng(self.index + 1000 * again)
        return uncompressed_png(rng.integers(0, 256, (8, 8), dtype=np.uint8))


class Cells(Source):
    """Twelve cells."""

    title, citation, licence, views, reads_root = "Cells", "", "none", {}, False
    changes = False

    def candidates(self) -> Iterator[Candidate | Refused]:
        yield from (Candidate(f"cells/{i:02d}", Cell(i, self.changes), None, "ab"[i % 2]) for i in range(12))

    def extent(self) -> Extent:
        return Extent(0, 0, "0" * 64)


def test_each_is_read_to_be_examined_and_to_be_stored_and_one_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    reads.clear()
    card = ingest(Cells(tmp_path, Cells.Params()), SourceParams(name="cells"), tmp_path, 1, published=tmp_path)
    assert (card["kept"], card["refused"]) == (11, {"truncated": 1})
    assert sorted(reads) == sorted([*range(12), *set(range(12)) - {3}])
    (refused,) = read_quarantine(tmp_path / "quarantine.parquet").to_pylist()
    assert (refused["path"], refused["detail"]) == ("cells/03", "half of it. Fetch it again")
    tar = (tmp_path / "images.tar").read_bytes()
    stored = {
        tar[r["offset"] : r["offset"] + r["bytes"]] for r in read_manifest(tmp_path / "manifest.parquet").to_pylist()
    }
    assert stored == {Cell(i).read(1) for i in range(12) if i != 3}


def test_one_that_changes_before_it_is_stored_stops_ingest(tmp_path: Path) -> None:
    reads.clear()
    source = Cells(tmp_path, Cells.Params())
    source.changes = True
    with pytest.raises(InputsChanged, match="other bytes than were examined"):
        ingest(source, SourceParams(name="cells"), tmp_path, 1, published=tmp_path)


@pytest.mark.parametrize(("made", "workers"), [(True, 0), (False, 5)])
def test_only_what_reprise_makes_itself_is_decoded_without_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool, workers: int
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Cell, "made", made)
    monkeypatch.setattr(ingesting, "examine_all", lambda items, limits, workers: asked.append(workers) or iter(()))
    candidates = [Candidate("cells/0", Cell(0))]
    with pytest.raises(ValueError, match="shorter"), SketchFile(tmp_path) as sketches:
        ingesting.examine_candidates(candidates, SourceParams(name="cells"), 5, sketches)
    assert asked == [workers]
