"""Clusters as a table and as folders: every image once, files unchanged, nothing overwritten, nothing hostile."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from pipeline.images.chosen_run import ChosenRun, chosen_run
from pipeline.images.clusters import export, in_words, members_of, overview
from pipeline.projects.contents import params_text
from pipeline.projects.presets import load_preset
from reprise.artifacts import layout
from reprise.artifacts.labels.image_clusters import FILE, SCHEMA, SUITE
from reprise.artifacts.manifest import write_manifest
from reprise.artifacts.shards import INDEX, INDEX_SCHEMA, write_index
from reprise.artifacts.tables.parquet import write_table
from reprise.config.errors import ParameterError, ResultError, SourceError, StorageError

NAMES = ["a/same.jpg", "b/same.jpg", "b/=cmd.jpg", "c/last.jpg"]
IN_ARCHIVE = b"an image as shards hold it"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four files and an image of an archive in two clusters, as a finished graph leaves them."""
    pictures, folder = tmp_path / "pictures", tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "params.yaml").write_text(params_text(load_preset("photos-unlabelled"), pictures), encoding="utf-8")
    rows = []
    for number, name in enumerate(NAMES):
        data = f"picture {number}".encode()
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / name).write_bytes(data)
        rows.append({"path": str(pictures / name), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    rows.append({"path": "data/ingest/images.tar", "bytes": 3, "sha256": hashlib.sha256(b"tar").hexdigest()})
    for row in rows:
        row |= {"key": row["sha256"][:24], "offset": 0, "split": "train", "width": 8, "height": 8, "channels": 3}
        row |= {"format": "JPEG", "plain": True, "pixels": row["sha256"]}
    rows[-1]["offset"] = 512
    write_manifest(layout.MANIFEST, pa.Table.from_pylist(rows))
    digest = hashlib.sha256(IN_ARCHIVE).hexdigest()
    stored = {"key": rows[-1]["key"], "split": "train", "shard": "t.tar", "offset": 0, "bytes": len(IN_ARCHIVE)}
    stored |= {"ext": "png", "width": 8, "height": 8, "channels": 3, "sha256": digest, "group": None}
    layout.SHARDS.mkdir(parents=True)
    (layout.SHARDS / "t.tar").write_bytes(IN_ARCHIVE)
    write_index(layout.SHARDS / INDEX, pa.Table.from_pylist([stored], schema=INDEX_SCHEMA))
    found = [
        {"key": row["key"], "cluster": cluster, "distance": distance, "certainty": certainty}
        for row, cluster, distance, certainty in zip(
            rows, (0, 0, 1, 0, 1), (0.2, 0.1, 0.3, 0.4, 0.5), (0.5, 0.6, 0.2, 0.1, 0.3), strict=True
        )
    ]
    place = layout.probes_on_features("simclr", 0) / SUITE / FILE
    write_table(place, pa.Table.from_pylist(found, schema=SCHEMA).sort_by("key"))
    return folder


def test_the_table_shows_the_most_central_and_the_least_certain_image(project: Path) -> None:
    pictures = project.parent / "pictures"
    assert overview(members_of(ChosenRun("simclr", 0))) == [
        ["0", "3", "0.500", str(pictures / "b/same.jpg"), str(pictures / "c/last.jpg")],
        ["1", "2", "0.250", str(pictures / "b/=cmd.jpg"), str(pictures / "b/=cmd.jpg")],
    ]


@pytest.mark.parametrize("link", [False, True])
def test_every_image_gets_into_the_folder_of_its_cluster(project: Path, link: bool) -> None:
    pictures, out = project.parent / "pictures", project.parent / "out"
    before = {path: path.read_bytes() for path in pictures.rglob("*.jpg")}
    members = members_of(ChosenRun("simclr", 0))
    done = export(members, out, link=link)
    assert done == {"linked" if link else "copied": 4, "written": 1}
    assert "5 images in 2 clusters, 4" in in_words(members, done)
    first, second = sorted(p.name for p in (out / "cluster-0").iterdir()), list((out / "cluster-1").iterdir())
    assert first[0] == "last.jpg"
    assert [name for name in first if name.startswith("same")][-1] == "same.jpg"
    assert len(first) == 3
    assert {p.read_bytes() for p in second} == {b"picture 2", IN_ARCHIVE}
    assert {p.read_bytes() for p in (out / "cluster-0").iterdir()} == {b"picture 0", b"picture 1", b"picture 3"}
    assert os.path.samefile(out / "cluster-0/same.jpg", pictures / "b/same.jpg") == link
    assert {path: path.read_bytes() for path in pictures.rglob("*.jpg")} == before
    with (out / "clusters.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["copy"] for row in rows} == {str(p.relative_to(out)) for p in out.rglob("cluster-*/*")}
    assert rows[0]["path"] == str(pictures / "b/same.jpg")


def test_a_table_of_its_own(project: Path) -> None:
    out = project.parent / "out.csv"
    assert export(members_of(ChosenRun("simclr", 0)), out) == {}
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "cluster,path,certainty,distance,split,key"
    assert len(lines) == 6


def test_nothing_is_overwritten_and_no_copy_lies_among_the_images(project: Path) -> None:
    members, outside = members_of(ChosenRun("simclr", 0)), project.parent
    (outside / "full").mkdir()
    (outside / "full/mine.txt").write_text("mine")
    (outside / "mine.csv").write_text("mine")
    (outside / "link").symlink_to(outside / "pictures")
    for target in ("full", "mine.csv", "link"):
        with pytest.raises(StorageError, match="nothing is overwritten"):
            export(members, outside / target)
    for target in ("pictures/new", "link/new", "project/data/new", "pictures/new.csv"):
        with pytest.raises(StorageError, match="cannot lie among the images"):
            export(members, outside / target)
    assert (outside / "mine.csv").read_text() == (outside / "full/mine.txt").read_text() == "mine"
    (outside / "empty").mkdir()
    assert export(members, outside / "empty")["copied"] == 4


def test_an_image_that_changed_stops_the_export_and_leaves_nothing(project: Path) -> None:
    members, out = members_of(ChosenRun("simclr", 0)), project.parent / "out"
    (project.parent / "pictures/c/last.jpg").write_bytes(b"picture X")
    for link in (False, True):
        with pytest.raises(SourceError, match="changed since it was taken in"):
            export(members, out, link=link)
    (project.parent / "pictures/c/last.jpg").unlink()
    with pytest.raises(SourceError, match="changed since it was taken in"):
        export(members, out)
    assert sorted(path.name for path in project.parent.iterdir()) == ["pictures", "project"]


def test_a_run_without_clusters_says_which_line_is_missing(project: Path) -> None:
    with pytest.raises(ResultError, match=r"the run 'random' has no clusters.*Run `reprise repro`"):
        members_of(ChosenRun("random", 0))
    raw = YAML(typ="safe").load(Path("params.yaml"))
    del raw["probes"]["label_free"]["clustering"]
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(raw, file)
    with pytest.raises(ResultError, match=r"Write `clustering: \{\}` under probes.label_free"):
        members_of(ChosenRun("random", 0))


def test_without_a_name_the_first_run_that_learned_without_labels_is_asked(project: Path, repository: Path) -> None:
    assert chosen_run(None, None) == ChosenRun("simclr", 0)
    assert chosen_run(None, None, repository / "params.yaml") == ChosenRun("simclr", 0)
    assert chosen_run("random", 0) == ChosenRun("random", 0)
    with pytest.raises(ParameterError, match="no such run.*--run.*Did you mean 'simclr'"):
        chosen_run("simclt", None)
    with pytest.raises(ParameterError, match="no run has this seed"):
        chosen_run(None, 7)
