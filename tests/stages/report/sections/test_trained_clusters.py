"""Clusters of the trained embedding on the page: the right images with their names, and how far seeds agree."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from reprise.artifacts.labels.image_clusters import SCHEMA
from reprise.artifacts.manifest import read_manifest, write_manifest
from reprise.artifacts.tables.parquet import write_table
from stages.report.drawing.thumbnails import Album
from stages.report.readers.runs import Run, SeedRun
from stages.report.section_registry import Absent
from stages.report.sections.trained_clusters import CENTRAL, MOST, UNSURE, agreement, clusters_of, row_of, show
from tests.stages.report.conftest import Build, rendered, seed_run

NOTHING = Album(None)


def clustered(
    name: str, clusters: dict[str, tuple[int, float, float]], seed: int = 0, method: str = "simclr"
) -> SeedRun:
    run = seed_run(name, None, method=method, steps=0 if method == "random" else 9)
    return SeedRun(**{**vars(run), "seed": seed, "clusters": clusters})


def test_the_most_central_images_come_first_and_then_the_least_certain_of_the_others() -> None:
    members = {f"{i:02}": (0, i / 100, 0.5 if i == 14 else 1 - i / 100) for i in range(20)}
    (cluster,) = clusters_of(clustered("a", members), {"00": "dir/first.jpg"}, NOTHING, 1).clusters
    assert [item.name for item in cluster.central] == ["dir/first.jpg", "01", "02", "03", "04", "05"][:CENTRAL]
    assert [item.name for item in cluster.unsure] == ["14", "19", "18"][:UNSURE]
    assert cluster.unsure[0].certainty == "0.50"
    assert cluster.size == 20


def test_more_clusters_than_a_page_takes_are_counted() -> None:
    members = {f"{i:03}": (i, 0.1, 0.5) for i in range(MOST + 7)}
    shown = clusters_of(clustered("a", members), {}, NOTHING, 1)
    assert (len(shown.clusters), shown.left_out) == (MOST, 7)


def test_seeds_agree_as_far_as_their_clusters_are_the_same_under_other_numbers() -> None:
    one = {str(i): (i % 3, 0.1, 0.5) for i in range(30)}
    same = {key: ((cluster + 1) % 3, 0.2, 0.1) for key, (cluster, _, _) in one.items()}
    other = {str(i): (i // 10, 0.1, 0.5) for i in range(30)}
    seeds = [clustered("a", clusters, seed) for seed, clusters in enumerate((one, same, other))]
    assert agreement(seeds[:2]) == 1.0
    assert agreement(seeds[:1]) is None
    both = agreement([seeds[0], seeds[2]])
    assert both is not None
    assert abs(both) < 0.1
    assert agreement(seeds) == pytest.approx((1.0 + both + both) / 3)
    row = row_of(Run("a", tuple(seeds)))
    assert (row.clusters, row.sizes, row.silhouette) == (3, (10, 10, 10), "–")


def test_pictures_are_those_of_pretrained_runs_and_without_any_of_the_others() -> None:
    found = {"a": (0, 0.1, 0.5), "b": (1, 0.1, 0.5)}
    untrained = Run("untrained", (clustered("untrained", found, method="random"),))
    trained = Run("trained", (clustered("trained", found),))
    content = show(None, (untrained, trained), NOTHING)
    assert isinstance(content, dict)
    assert [row.run for row in content["rows"]] == ["untrained", "trained"]
    assert [shown.run for shown in content["clustered"]] == ["trained"]
    alone = show(None, (untrained,), NOTHING)
    assert isinstance(alone, dict)
    assert [shown.run for shown in alone["clustered"]] == ["untrained"]
    assert isinstance(show(None, (Run("a", (seed_run("a", None),)),), NOTHING), Absent)


def test_the_page_has_numbers_names_and_pictures_and_the_map_their_colours(build: Build) -> None:
    build(labelled=False)
    manifest = read_manifest().to_pylist()
    manifest[0]["path"] = "digits/<img src=x onerror=alert(1)>\u202e.png"
    write_manifest("data/ingest/manifest.parquet", pa.Table.from_pylist(manifest))
    rows = [{"key": row["key"], "cluster": i % 11, "distance": 0.1, "certainty": 0.5} for i, row in enumerate(manifest)]
    for run in ("random", "simclr"):
        folder = next(Path("data/probe", run, "0").glob("*/label_free"))
        write_table(folder / "clustering.parquet", pa.Table.from_pylist(rows, schema=SCHEMA))
    page = rendered(1).decode()
    part = page[page.index('id="trained_clusters"') :]
    part = part[: part.index("</section>")]
    assert part.count("<h4>") == 11
    assert "3 more clusters of" in part
    assert "Cluster 0: 11 images, median certainty 0.50" in part
    assert re.search(r'<li title="[^"]+\.png, certainty 0.50"><img src="data:image/', part)
    assert "onerror=alert(1)>" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in part
    assert "\u202e" not in page
    assert "Colour and shape show the cluster of simclr" in page
    legend = re.findall(r"<bdi>(cluster \d+)</bdi></button>", page)
    assert legend == [f"cluster {number}" for number in range(11)]
