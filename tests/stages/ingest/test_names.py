"""Names of images that are no files: written where a source keeps them, and used wherever images are named."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts.facts.names import FILE, read_names, with_names
from reprise.artifacts.layout import INGEST, SHARDS
from reprise.artifacts.manifest import read_manifest
from reprise.config.errors import ManifestError
from reprise.media.image.encode import uncompressed_png
from stages.facts.gather import gather
from stages.facts.params import FactsParams
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, Extent, Source
from stages.mine.label_sets.label_set import manifest_facts
from stages.report.readers.images.ingest import summarize


class Cells(Source):
    """Six images that are bytes."""

    title, citation, licence, views, reads_root = "Cells", "", "none", {}, False
    keeps_names = True

    def candidates(self) -> Iterator[Candidate]:
        rng = np.random.default_rng(0)
        for i in range(6):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            yield Candidate(f"walk.mp4/{i:08d}.png", uncompressed_png(pixels), group="walk.mp4")

    def extent(self) -> Extent:
        return Extent(0, 0, "0" * 64)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    INGEST.mkdir(parents=True)
    SHARDS.mkdir(parents=True)
    ingest(Cells(tmp_path, Cells.Params()), SourceParams(name="cells"), INGEST, 1)
    (SHARDS / FILE).write_bytes((INGEST / FILE).read_bytes())
    return list(read_manifest(columns=["key"])["key"].to_pylist())


def test_an_image_that_is_no_file_is_found_by_its_name(keys: list[str]) -> None:
    names = read_names()
    assert sorted(names.values()) == [f"walk.mp4/{i:08d}.png" for i in range(6)] and sorted(names) == keys
    with open("targets.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "age"), ("walk.mp4/00000003.png", "7")])
    facts, _ = gather(FactsParams())
    assert {k: v for k, v in zip(facts.keys, facts.columns["age"], strict=True) if v == v} == {
        next(key for key, name in names.items() if name.endswith("3.png")): 7.0
    }
    images = summarize(read_manifest(), ())
    assert images.names == {key: name.removeprefix("walk.mp4/") for key, name in names.items()}


def test_miners_see_the_names(keys: list[str]) -> None:
    _, images = manifest_facts(np.array(keys, dtype=object))
    assert images.paths == [read_names()[key] for key in keys] and set(images.groups) == {"walk.mp4"}


def test_without_a_table_paths_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cells, "keeps_names", False)
    ingest(Cells(tmp_path, Cells.Params()), SourceParams(name="cells"), tmp_path, 1)
    assert not (tmp_path / FILE).exists() and with_names(["a"], ["x.png"], tmp_path) == ["x.png"]


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"PAR1")
    with pytest.raises(ManifestError, match="Run `dvc repro ingest`"):
        read_names(tmp_path)
