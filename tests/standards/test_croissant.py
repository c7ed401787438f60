"""The Croissant description: valid for mlcroissant, and what mlcroissant reads by it is what we have."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.cli.commands import app
from reprise.artifacts import layout
from reprise.artifacts.croissant import describe
from reprise.artifacts.facts.sides import Sides
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.shards import Shards
from reprise.config.errors import ResultError
from reprise.config.stores import FarParams
from reprise.media.image.decode import decode
from reprise.media.image.encode import uncompressed_png
from reprise.storage.atomic import write_json
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder
from stages.shard.params import ShardParams
from stages.shard.send import sending
from stages.shard.write import write_shards

pytestmark = [  # of rdflib, and of tars that mlcroissant leaves open
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def dataset(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The description, as mlcroissant reads it from a folder elsewhere."""
    import mlcroissant
    from etils import epath
    from mlcroissant._src.operation_graph.operations import extract

    monkeypatch.setattr(extract, "EXTRACT_PATH", epath.Path(tmp_path / "extracted"))  # it is kept by address alone
    write_json("croissant.json", describe(Path(), "Shapes", "https://example.org/shapes", "2026-01-31"))
    return mlcroissant.Dataset(jsonld="croissant.json")


def test_the_code_of_the_documentation_runs_as_written(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/own-images.md").read_text(encoding="utf-8")
    section = page[page.index("## Read the results elsewhere") :].partition("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in blocks:
            exec(compile(block, "docs/how-to/own-images.md", "exec"), {})
    printed = capsys.readouterr().out
    keys = read_manifest(columns=["key"])["key"].to_pylist()
    assert len(blocks) == 4
    assert all(key in printed for key in keys)


def text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def records(dataset: Any, name: str) -> list[dict[str, Any]]:
    return [
        {field.removeprefix(f"{name}/"): text(value) for field, value in row.items()} for row in dataset.records(name)
    ]


def test_it_is_valid_and_every_file_has_its_digest(dataset: Any) -> None:
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert [warning for warning in issues.warnings if "/citeAs" not in warning] == []  # drawings have no publication
    described = json.loads(Path("croissant.json").read_text())
    files = [entry for entry in described["distribution"] if entry["@type"] == "cr:FileObject"]
    shards = {path.name for path in layout.SHARDS.glob("*.tar")}
    assert {file["name"] for file in files} == shards | {"manifest.parquet", "facts.parquet", "captions.parquet"}
    for file in files:
        content = Path(file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["contentSize"] == f"{len(content)} B"
    assert (described["url"], described["datePublished"]) == ("https://example.org/shapes", "2026-01-31")
    assert described["license"] == "made by Reprise; no rights are claimed"


def test_mlcroissant_reads_the_same_images_labels_splits_and_facts(dataset: Any) -> None:
    manifest = {row["key"]: row for row in read_manifest().to_pylist()}
    shards, sides = Shards.open(), Sides()
    pixels = {str(key): decode(shards.read(i), "x", 3) for i, key in enumerate(shards.keys)}
    images = records(dataset, "images")
    assert sorted(row["key"] for row in images) == sorted(manifest)
    for row in images:
        own = manifest[row["key"]]
        assert (row["split"], row["label"]) == (own["split"], own["label"])
        assert np.array_equal(np.asarray(row["image"].convert("RGB")), pixels[row["key"]])
    assert [row["name"] for row in records(dataset, "splits")] == ["train", "val", "test"]
    assert [row["name"] for row in records(dataset, "labels")] == sorted({row["label"] for row in manifest.values()})
    assert records(dataset, "facts") == pq.read_table(layout.ALL_FACTS / "facts.parquet").to_pylist()
    assert records(dataset, "captions") == pq.read_table(layout.ALL_FACTS / "captions.parquet").to_pylist()
    for row in records(dataset, "pose"):
        assert json.loads(row["value"]) == json.loads(sides.read(row["key"], "pose") or b"")
    assert len(records(dataset, "mask")) == len(manifest)


def test_the_command_writes_the_same_bytes_again_and_no_path_of_the_machine(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cli.images.croissant.enter_project", lambda: os.chdir(project))
    written = []
    for name in ("a.json", "b.json"):
        result = CliRunner().invoke(app, ["croissant", "-o", str(project / name), "--date", "2026-01-31"])
        assert result.exit_code == 0, result.output
        assert "record sets splits, labels, images, facts, captions, boxes, mask, pose" in result.output
        written.append((project / name).read_bytes())
    assert written[0] == written[1]
    assert str(project).encode() not in written[0]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResultError, match="reprise repro shard facts"):
        describe(Path())


def test_data_without_labels_facts_and_groups_are_described_as_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / f"in/{i}.png").write_bytes(uncompressed_png(np.full((8, 8), 40 * i, np.uint8)))
    layout.INGEST.mkdir(parents=True)
    ingest(Folder(tmp_path / "in", Folder.Params()), SourceParams(name="folder"), layout.INGEST, 0)
    layout.SHARDS.mkdir()
    write_shards(read_manifest(), ShardParams(max_shard_bytes=1 << 20, max_side=64), layout.SHARDS, 1)
    described = describe(tmp_path, "Four / shades")
    assert described["name"] == "Four _ shades"
    assert "citeAs" not in described
    assert "4 images without classes" in described["description"]
    assert [records["name"] for records in described["recordSet"]] == ["splits", "images"]
    assert [field["name"] for field in described["recordSet"][1]["field"]] == ["key", "image", "split"]
    assert {f["contentUrl"] for f in described["distribution"] if "contentUrl" in f} == {
        "data/ingest/manifest.parquet",
        *(f"data/shards/{shard.name}" for shard in layout.SHARDS.glob("*.tar")),
    }
    hashes = {f["@id"]: (f["sha256"], f["contentSize"]) for f in described["distribution"] if "contentUrl" in f}
    with sending(tmp_path / "work", f"file://{tmp_path}/store", FarParams()) as sender:
        (tmp_path / "work").mkdir()
        shutil.rmtree(layout.SHARDS)
        layout.SHARDS.mkdir()
        sizes = ShardParams(max_shard_bytes=1 << 20, max_side=64)
        write_shards(read_manifest(), sizes, layout.SHARDS, 1, tmp_path / "work", (), sender)
    far = {f["@id"]: f for f in describe(tmp_path, "Four / shades")["distribution"] if "contentUrl" in f}
    assert {name: (f["sha256"], f["contentSize"]) for name, f in far.items()} == hashes
    tars = [f for name, f in far.items() if name.endswith(".tar")]
    assert tars
    assert all(tar["contentUrl"] == f"file://{tmp_path}/store/{tar['sha256']}.tar" for tar in tars)
