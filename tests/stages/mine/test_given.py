"""The label sets that always exist: `none` and `truth`, the same for every seed, without features."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from reprise.artifacts.labels.label_sets import FILE, SCHEMA, read_pseudo_labels, write_pseudo_labels
from reprise.artifacts.layout import MANIFEST
from reprise.artifacts.manifest import read_manifest, write_manifest
from reprise.storage.work_folder import file_digest
from stages.mine.given import write_given
from tests.workspace import make_shards

MINE = Path("data/mine")


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_shards()


def quality(name: str) -> dict:
    return json.loads((MINE / name / "0/quality.json").read_text())


def relabelled(labels: dict[str, str | None]) -> None:
    manifest = read_manifest()
    new = [labels.get(row["key"], row["label"]) for row in manifest.to_pylist()]
    place = manifest.schema.get_field_index("label")
    write_manifest(MANIFEST, manifest.set_column(place, manifest.schema.field(place), pa.array(new, pa.string())))


def test_truth_numbers_the_classes_of_the_training_images_and_none_is_empty() -> None:
    train = read_manifest().filter(pc.equal(read_manifest()["split"], "train")).to_pylist()
    relabelled({train[0]["key"]: None, train[1]["key"]: "a dog"})
    label = {row["key"]: row["label"] for row in train} | {train[0]["key"]: None, train[1]["key"]: "a dog"}
    order = sorted({name for name in label.values() if name is not None})
    write_given([0, 7])
    truth, none = (read_pseudo_labels(MINE / name / "0" / FILE) for name in ("truth", "none"))
    assert truth["key"].to_pylist() == none["key"].to_pylist() == sorted(label)
    found = [None if cluster is None else order[cluster] for cluster in truth["cluster"].to_pylist()]
    assert found == [label[key] for key in sorted(label)]
    for table, empty in ((truth, ("distance", "confidence")), (none, ("cluster", "distance", "confidence"))):
        assert [table[name].null_count for name in empty] == [80] * len(empty)
        assert set(table["round"].to_pylist()) == {0}
    assert sorted(path.name for path in MINE.glob("*/*/*.png")) == ["montage.png", "montage.png"]
    for name in ("none", "truth"):
        assert file_digest(MINE / name / "0") == file_digest(MINE / name / "7")
    assert quality("none") == {
        "miner": "none",
        "on": "data/ingest/manifest.parquet",
        "uses_truth": False,
        "images": 80,
        "labelled": 0,
        "clusters": 0,
    }
    assert (quality("truth")["uses_truth"], quality("truth")["labelled"]) == (True, 79)
    assert quality("truth")["clusters"] == len(order)


def test_labels_change_no_byte_of_none_and_without_labels_truth_is_empty() -> None:
    """The proof that labels reach no unsupervised run: it depends on data/mine/none/<seed> only."""
    write_given([0])
    before = file_digest(MINE / "none")
    relabelled(dict.fromkeys(read_manifest()["key"].to_pylist()))
    write_given([0])
    assert file_digest(MINE / "none") == before
    assert (MINE / "truth/0" / FILE).read_bytes() == (MINE / "none/0" / FILE).read_bytes()
    assert (quality("truth")["uses_truth"], quality("truth")["clusters"]) == (True, 0)
    assert not list(MINE.rglob("*.png"))


def test_the_bytes_are_those_of_any_writer_of_the_contract(tmp_path: Path) -> None:
    write_given([0])
    rows = read_pseudo_labels(MINE / "truth/0" / FILE).to_pylist()
    write_pseudo_labels(tmp_path / "same.parquet", pa.Table.from_pylist(rows, SCHEMA))
    assert (MINE / "truth/0" / FILE).read_bytes() == (tmp_path / "same.parquet").read_bytes()


def test_a_seed_that_is_gone_leaves_nothing_and_the_stage_imports_nothing_heavy(repository: Path) -> None:
    write_given([0, 1])
    params = (repository / "params.yaml").read_text().replace("seeds: [0]", "seeds: [2, 3]")
    Path("params.yaml").write_text(params)
    code = "import sys; from stages.mine.given import main; main([]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(repository)}
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in MINE.glob("*/*")} == {"2", "3"}
    assert not {"torch", "sklearn", "scipy", "matplotlib"} & set(done.stdout.split())
