"""Champion and challenger answer the same val images; those that the champion was trained on are left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reprise.artifacts import layout
from reprise.artifacts.embeddings import FILE, write_embeddings
from reprise.artifacts.manifest import read_manifest, write_manifest
from reprise.artifacts.shards import Shards
from stages.embed.outside.challenge import ask_both, main
from tests.reprise.backbones.test_forms import run_of
from tests.workspace import make_shards


@pytest.fixture
def champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """160 digits; the challenger's features are the classes themselves, the champion's those of a random network."""
    monkeypatch.chdir(tmp_path)
    make_shards()
    (tmp_path / "before").mkdir()
    run_of(tmp_path / "before/0", "resnet_tiny", 16)
    layout.run("simclr", 0).mkdir(parents=True)
    labels = {row["key"]: int(row["label"]) for row in read_manifest().to_pylist()}
    shards = Shards.open()
    layout.embedding("simclr", 0).mkdir(parents=True)
    features = np.eye(10, dtype=np.float32)[[labels[key] for key in shards.keys]]
    write_embeddings(layout.embedding("simclr", 0) / FILE, shards.keys, shards.splits, {"backbone": features})
    return tmp_path / "before/0"


def test_both_answer_the_same_images_and_images_known_to_the_champion_are_left_out(champion: Path) -> None:
    val = [row["key"] for row in read_manifest().to_pylist() if row["split"] == "val"]
    found = ask_both(champion, "simclr", 0, set(val[:5]) | {"unknown"})
    assert len(found["champion"]) == len(found["challenger"]) == len(val) - 5
    assert found["left_out"] == 5
    assert all(found["challenger"])
    assert 0.2 < np.mean(found["champion"]) < 1  # a random network tells digits apart better than chance
    assert found["groups"] is None
    whole = ask_both(champion, "simclr", 0, set())
    assert whole["champion"][5:] == found["champion"]


def test_the_test_split_is_not_read(champion: Path) -> None:
    before = ask_both(champion, "simclr", 0, set())
    rows = read_manifest().to_pylist()
    for row in rows:
        row["label"] = "another" if row["split"] == "test" else row["label"]
    write_manifest(layout.MANIFEST, pa.Table.from_pylist(rows, read_manifest().schema))
    assert ask_both(champion, "simclr", 0, set()) == before


def test_without_labelled_val_images_nobody_can_tell(champion: Path) -> None:
    rows = read_manifest().to_pylist()
    splits = [row["split"] for row in rows]
    for row in rows:
        row["label"] = None if row["split"] == "val" else row["label"]
    write_manifest(layout.MANIFEST, pa.Table.from_pylist(rows, read_manifest().schema))
    found = ask_both(champion, "simclr", 0, set())
    labelled = f"there are {splits.count('train')} labelled images of train"
    assert found["unknown"] == f"{labelled}, and 0 of val that the champion has not seen"
    assert (found["champion"], found["challenger"]) == ([], [])


def test_where_the_champion_has_seen_all_of_val_nobody_can_tell(champion: Path) -> None:
    val = {row["key"] for row in read_manifest().to_pylist() if row["split"] == "val"}
    found = ask_both(champion, "simclr", 0, val)
    assert "0 of val that the champion has not seen" in found["unknown"]
    assert found["left_out"] == len(val)


def test_of_volumes_nobody_can_tell(champion: Path) -> None:
    table = read_manifest()
    table = table.append_column("modality", pa.array(["volume"] * len(table), pa.string()))
    pq.write_table(table, layout.MANIFEST)
    assert ask_both(champion, "simclr", 0, set())["unknown"].startswith("backbones for volumes")


def test_the_command_writes_json(champion: Path) -> None:
    arguments = ["--champion", str(champion), "--before", str(layout.MANIFEST), "--run", "simclr", "--seed", "0"]
    main([*arguments, "--out", "answers.json"])
    assert set(json.loads(Path("answers.json").read_text())) == {
        "champion",
        "challenger",
        "groups",
        "left_out",
        "unknown",
    }
