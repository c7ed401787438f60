"""Clusters of the embedding: known blobs, the stated certainty, every image, no labels."""

from __future__ import annotations

import numpy as np
import pytest

from reprise.artifacts.labels.image_clusters import read_image_clusters
from reprise.artifacts.tables.parquet import write_table
from reprise.measures.unit_vectors import unit
from stages.probe.probes.label_free.clustering import Clustering, clusters_by_rule


def run(data, **params):
    return Clustering(Clustering.Params(**params)).run(data)


def test_blobs_are_found_numbered_by_size_and_every_image_has_one(make, tmp_path) -> None:
    blobs = np.concatenate([np.repeat([0, 1, 2], [30, 60, 110]), np.arange(140) % 3])  # train, then the others

    def place(x: np.ndarray) -> None:
        x[:] *= 0.01
        x[np.arange(340), blobs] += 1.0

    data = make(change=place, spread=0.0, labels=lambda s, c: None)
    result = run(data, clusters=3)
    found = {row["key"]: row["cluster"] for row in result.table.to_pylist()}
    for split in ("train", "val", "test"):
        where = data.features(split)[:, :3].argmax(axis=1)
        assert [found[key] for key in data.part(split).keys] == (2 - where).tolist(), "the largest is number 0"
    assert result.table.num_rows == 340
    assert result.table["key"].to_pylist() == sorted(found)
    assert result.metrics["stability"].value == pytest.approx(1.0)
    assert result.metrics["silhouette"].value > 0.9
    write_table(tmp_path / "clustering.parquet", result.table)
    assert read_image_clusters(tmp_path / "clustering.parquet").num_rows == 340


def test_certainty_is_one_minus_the_ratio_of_the_two_nearest_distances(make) -> None:
    data = make(labels=lambda s, c: None)
    rows = {row["key"]: row for row in run(data, clusters=4).table.to_pylist()}
    x = unit(data.features("train"))
    cluster = np.array([rows[key]["cluster"] for key in data.part("train").keys])
    centres = np.stack([x[cluster == k].mean(axis=0) for k in range(4)])  # where k-means has come to rest
    distances = np.sort(np.linalg.norm(x[:, None] - centres[None], axis=2), axis=1)
    got = np.array([[rows[key]["distance"], rows[key]["certainty"]] for key in data.part("train").keys])
    assert got[:, 0] == pytest.approx(distances[:, 0], abs=1e-4)
    assert got[:, 1] == pytest.approx(1 - distances[:, 0] / distances[:, 1], abs=1e-3)
    assert list(np.bincount(cluster)) == sorted(np.bincount(cluster), reverse=True)


def test_labels_play_no_part_and_the_same_data_give_the_same_bytes(make) -> None:
    with_labels, without = run(make()), run(make(labels=lambda s, c: None))
    assert with_labels.table.equals(without.table)
    assert with_labels.metrics == without.metrics


@pytest.mark.parametrize(("images", "clusters"), [(2, 2), (50, 5), (864, 21), (20_000, 100), (10**6, 100)])
def test_unless_asked_for_a_number_the_stated_rule_holds(images: int, clusters: int) -> None:
    assert clusters_by_rule(images) == clusters


def test_the_protocol_says_which_number_was_taken_and_why(make) -> None:
    data = make(labels=lambda s, c: None)
    assert run(data).protocol["clusters"] == "10, the square root of half the training images"
    assert run(data, clusters=7).protocol["clusters"] == "7, as asked for"
    few = make(train=5, val=0, test=2)
    assert run(few, clusters=9).protocol["clusters"] == "5, asked for 9, but train has 5 different images"
    assert run(few, clusters=2).table.num_rows == 7
    assert "train has 3 different images" in run(make(train=3, val=0, test=2)).protocol["note"]
