"""k-means and nearest neighbours over blocks of rows on Dask workers: the bytes of this process alone."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reprise.clustering import coarse
from reprise.clustering.centres import nearest
from reprise.clustering.kmeans import kmeans
from reprise.clustering.merging import merging_kmeans
from reprise.measures.nearest import shortlist
from reprise.measures.nearest.neighbours import top_k
from reprise.runtime.blocks import arrays, use
from reprise.runtime.blocks.arrays import publish
from reprise.runtime.blocks.cluster import Cluster
from tests.reprise.runtime.blocks.conftest import whole


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """(140,000, 24): three blocks of sums, and borders between groups that overlap."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(40, 24))[rng.integers(0, 40, 140_000)] + rng.normal(size=(140_000, 24))).astype(np.float32)


@pytest.fixture
def on_dask(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let all work be worth the cluster, in many blocks, from the call on."""
    whole(cluster)

    def begin() -> None:
        cluster.most_in_flight = 0
        monkeypatch.setattr(arrays, "LEAST_WORK", 1)
        monkeypatch.setattr(arrays, "BLOCK_WORK", 1 << 24)

    return begin


def killer(cluster: Cluster) -> threading.Thread:
    """Kill a worker once it has something to do."""
    victim = next(iter(cluster.client.run(os.getpid).values()))

    def kill() -> None:
        end = time.monotonic() + 30
        while cluster.most_in_flight < 3 and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(victim, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.parametrize("kill", [pytest.param(False, marks=pytest.mark.slow), True])
def test_kmeans_has_the_bytes_of_one_process(
    features: np.ndarray, cluster: Cluster, on_dask: Callable[[], None], kill: bool
) -> None:
    def centres() -> np.ndarray:
        return merging_kmeans(features, 20, 3, 1, np.random.default_rng(3), device="cpu")

    here = centres()
    on_dask()
    thread = killer(cluster) if kill else None
    there = centres()
    assert there.tobytes() == here.tobytes()
    assert cluster.most_in_flight > 2
    if thread is not None:
        thread.join()


def test_distances_to_centres_are_the_same_bytes(
    features: np.ndarray, cluster: Cluster, on_dask: Callable[[], None]
) -> None:
    centres = features[:300]
    here = nearest(features, centres, "cpu")
    on_dask()
    there = nearest(features, centres, "cpu")
    assert cluster.most_in_flight > 2
    for name in ("centre", "squared", "second"):
        assert getattr(there, name).tobytes() == getattr(here, name).tobytes()


@pytest.mark.slow
def test_early_moves_on_8_bit_integers_are_the_same_bytes(
    cluster: Cluster, on_dask: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coarse, "is_faster", lambda *_: True)
    rows = np.random.default_rng(1).normal(size=(70_000, 64)).astype(np.float32)
    here = kmeans(rows, 80, 6, 1, np.random.default_rng(3), device="cpu")
    on_dask()
    assert kmeans(rows, 80, 6, 1, np.random.default_rng(3), device="cpu").tobytes() == here.tobytes()
    assert cluster.most_in_flight > 2


@pytest.mark.parametrize(
    ("ordered", "listed", "kill"),
    [
        pytest.param(True, False, False, marks=pytest.mark.slow),
        (False, False, True),
        pytest.param(True, True, False, marks=pytest.mark.slow),
    ],
)
def test_nearest_neighbours_have_the_bytes_of_one_process(
    features: np.ndarray,
    cluster: Cluster,
    on_dask: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    ordered: bool,
    listed: bool,
    kill: bool,
) -> None:
    if listed:
        monkeypatch.setattr(shortlist, "_LEAST_WORK", 1)
    queries, bank = features[:3000], np.concatenate([features[:5000], features[:10]])
    here = top_k(queries, bank, 5, ordered, cells=1 << 20)
    on_dask()
    thread = killer(cluster) if kill else None
    there = top_k(queries, bank, 5, ordered, cells=1 << 20)
    assert cluster.most_in_flight > 2
    assert [part.tobytes() for part in there] == [part.tobytes() for part in here]
    if thread is not None:
        thread.join()


@pytest.mark.slow
def test_neighbours_among_the_rows_themselves(
    features: np.ndarray, cluster: Cluster, on_dask: Callable[[], None]
) -> None:
    rows = features[:6000]
    here = top_k(rows, rows, 4)
    on_dask()
    there = top_k(rows, rows, 4)
    assert cluster.most_in_flight > 2
    assert [part.tobytes() for part in there] == [part.tobytes() for part in here]


def test_an_array_is_written_once_and_removed_with_the_array(cluster: Cluster) -> None:
    array = np.arange(6.0).reshape(2, 3)
    first = publish(cluster.folder, array)
    assert publish(cluster.folder, array) == first
    assert np.array_equal(first.open(), array)
    assert publish(cluster.folder, array.copy()) != first
    del array
    gc.collect()
    assert not Path(first.path).exists()


def test_little_work_stays_here(features: np.ndarray, cluster: Cluster) -> None:
    cluster.most_in_flight = 0
    top_k(features[:100], features[:100], 3)
    assert cluster.most_in_flight == 0
    assert use.cluster() is cluster
