"""k-means against faiss and scikit-learn, the neighbour graph against faiss, a million rows streamed from Parquet.

    python benchmarks/mining.py [--part kmeans] [--part apart] [--part graph] [--part stream] [--repeats 3]

Synthetic features (twice as many groups as clusters, noisy, so that borders matter). Peers run in the same process,
turn about, on the same arrays and as many threads. Printed as JSON: seconds of every repeat, the ratio of the medians
(above 1: we are faster), on the clock and of the processor (which a busy machine disturbs less), and what makes the
times comparable: inertia, and the share of equal neighbours. faiss starts from random rows, or from k-means++ as here.
scikit-learn's KMeans is timed as users call it (its default of at most 300 iterations) and with the same 20.

`apart`: as many groups as clusters, far from each other, so that the best answer is known; told is the inertia over
that of the groups, for three seeds each. No times.

`stream`: the stage's own path, Parquet -> memory-mapped file -> `minibatch_kmeans`, in its own process; `anonymous`
is the largest memory that cannot be given back (RssAnon), sampled every 20 ms, less that of the imports. The time for
ten million rows is the time of a million times ten: every step is linear in the rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

from reprise.runtime.entry import prepare_process, threads

ITERATIONS = 20
PEERS = ["faiss", "faiss_plus_plus", "sklearn_20_iterations", "sklearn_as_called"]


def groups(n: int, d: int, count: int, seed: int = 0) -> np.ndarray:
    """(n, d) float32: `count` groups whose spread is twice that of their centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, d)).astype(np.float32) * 0.5
    return centres[rng.integers(0, count, n)] + rng.normal(size=(n, d)).astype(np.float32)


class Peak:
    """The largest memory that no file backs while the block runs, less that before: `mib`."""

    def __enter__(self) -> Self:
        self.before = self.most = anonymous()
        self.stop = threading.Event()
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop.set()
        self.watcher.join()
        self.mib = (self.most - self.before) >> 20

    def _watch(self) -> None:
        while not self.stop.wait(0.02):
            self.most = max(self.most, anonymous())


def turns(repeats: int, runs: dict[str, Callable[[], Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of each callable, turn about: seconds on the clock and of the processor, their ratios; and the last results.

    The first call of each, which is not counted, pays for pages and threads that the others find.
    """
    clock: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    results = {name: call() for name, call in runs.items()}
    for _ in range(repeats):
        for name, call in runs.items():
            began, busy = time.perf_counter(), time.process_time()
            results[name] = call()
            clock[name].append(round(time.perf_counter() - began, 2))
            processor[name].append(round(time.process_time() - busy, 2))
    found: dict[str, Any] = {"seconds": clock, "processor_seconds": processor}
    for kind, of in (("ratios", clock), ("processor_ratios", processor)):
        ours = statistics.median(of["reprise"])
        found[kind] = {n: round(statistics.median(v) / ours, 2) for n, v in of.items() if n != "reprise"}
    return found, results


def kmeans(rows: int, d: int, clusters: int, repeats: int, peers: list[str]) -> dict[str, Any]:
    """One start of the miner `kmeans` (centres, iterations, labels) against the peers."""
    import faiss
    from sklearn.cluster import KMeans as Peer

    from stages.mine.miners.kmeans import KMeans, KMeansParams

    x = groups(rows, d, 2 * clusters)

    def ours() -> np.ndarray:
        with tempfile.TemporaryDirectory() as work:
            params = KMeansParams(clusters=clusters, iterations=ITERATIONS, starts=1)
            return KMeans(params, 0).mine(x, None, Path(work)).clusters

    runs: dict[str, Callable[[], np.ndarray]] = {
        "reprise": ours,
        "faiss": lambda: by_faiss(x, clusters, 1, faiss.ClusteringInitMethod_RANDOM),
        "faiss_plus_plus": lambda: by_faiss(x, clusters, 1, faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS),
        "sklearn_20_iterations": lambda: Peer(clusters, max_iter=ITERATIONS, n_init=1, random_state=0).fit(x).labels_,
        "sklearn_as_called": lambda: Peer(clusters, random_state=0).fit(x).labels_,
    }
    times, labels = turns(repeats, {n: r for n, r in runs.items() if n == "reprise" or n in peers})
    inertia = {name: inertia_of(x, found) for name, found in labels.items()}
    return {
        "rows": rows, "dimensions": d, "clusters": clusters, "iterations": ITERATIONS,
        "inertia_over": {n: round(inertia["reprise"] / of, 5) for n, of in inertia.items() if n != "reprise"}, **times,
    }  # fmt: skip


def by_faiss(x: np.ndarray, clusters: int, seed: int, first: int) -> np.ndarray:
    """Labels of faiss's k-means on all rows, from its initialisation `first`."""
    import faiss

    peer = faiss.Kmeans(
        x.shape[1], clusters, niter=ITERATIONS, max_points_per_centroid=len(x), seed=seed, init_method=first
    )
    peer.train(x)
    return peer.index.search(x, 1)[1][:, 0]


def apart(seeds: int = 3, n: int = 20_000, d: int = 64, clusters: int = 400) -> dict[str, Any]:
    """Inertia over the best one, of one start each, where every group is a cluster."""
    import faiss
    from sklearn.cluster import KMeans as Peer

    from reprise.clustering.centres import nearest_centres
    from reprise.clustering.merging import merging_kmeans

    rng = np.random.default_rng(0)
    places = rng.normal(size=(clusters, d)) * 5
    group = rng.integers(0, clusters, n)
    x = (places[group] + rng.normal(size=(n, d))).astype(np.float32)

    def ours(seed: int) -> np.ndarray:
        return nearest_centres(x, merging_kmeans(x, clusters, ITERATIONS, 1, np.random.default_rng(seed)))

    runs: dict[str, Callable[[int], np.ndarray]] = {
        "reprise": ours,
        "faiss": lambda seed: by_faiss(x, clusters, seed + 1, faiss.ClusteringInitMethod_RANDOM),
        "faiss_plus_plus": lambda seed: by_faiss(x, clusters, seed + 1, faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS),
        "sklearn_as_called": lambda seed: Peer(clusters, random_state=seed).fit(x).labels_,
    }
    best = inertia_of(x, group)
    over = {name: [round(inertia_of(x, run(seed)) / best, 4) for seed in range(seeds)] for name, run in runs.items()}
    return {"rows": n, "dimensions": d, "clusters": clusters, "inertia_over_best": over}


def inertia_of(x: np.ndarray, labels: np.ndarray) -> float:
    """Squared distances to the means of the clusters, summed in float64."""
    from reprise.clustering.centres import sums

    total, counts = sums(x, labels.astype(np.int64), int(labels.max()) + 1)
    squared = (total**2).sum(axis=1) / np.maximum(counts, 1)
    return float((x.astype(np.float64) ** 2).sum() - squared.sum())


def graph(rows: int, d: int, k: int, repeats: int) -> dict[str, Any]:
    """The k nearest by cosine of every row against faiss's flat index."""
    import faiss

    from reprise.clustering.neighbour_graph import neighbours

    x = groups(rows, d, 1000)

    def peer() -> np.ndarray:
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        index = faiss.IndexFlatIP(d)
        index.add(unit)
        return index.search(unit, k + 1)[1]

    with Peak() as peak:
        neighbours(x, k)
    times, found = turns(repeats, {"reprise": lambda: neighbours(x, k)[0], "faiss": peer})
    theirs = [set(row) - {i} for i, row in enumerate(found["faiss"].tolist())]
    equal = np.mean([len(set(row) & other) / k for row, other in zip(found["reprise"].tolist(), theirs, strict=True)])
    return {
        "rows": rows, "dimensions": d, "k": k, "equal_neighbours": round(float(equal), 5), "anonymous_mib": peak.mib,
        **times,
    }  # fmt: skip


def stream(rows: int, d: int, clusters: int, passes: int) -> dict[str, Any]:
    """Write shards of features, then mine them in another process that reports its memory."""
    with tempfile.TemporaryDirectory() as folder:
        written = write_rows(Path(folder), rows, d)
        command = [sys.executable, __file__, "--mine", folder, "--clusters", str(clusters), "--passes", str(passes)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(told.splitlines()[-1])
    found["ten_million_rows_extrapolated_minutes"] = round(found["seconds"] * 1e7 / rows / 60, 1)
    return {"rows": rows, "dimensions": d, "clusters": clusters, "passes": passes, "features_mib": written} | found


def write_rows(folder: Path, rows: int, d: int) -> int:
    """Features as the contract has them, a row group for each 65,536 rows; returns MiB."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("key", pa.string()), ("split", pa.string()), ("features", pa.list_(pa.float32(), d))])
    with pq.ParquetWriter(folder / "embeddings.parquet", schema, compression="zstd") as writer:
        for start in range(0, rows, 1 << 16):
            block = groups(min(1 << 16, rows - start), d, 2000, seed=0)
            values = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), d)
            keys = [f"{i:024x}" for i in range(start, start + len(block))]
            writer.write_table(pa.table([pa.array(keys), pa.array(["train"] * len(block)), values], schema=schema))
    return rows * d * 4 >> 20


def mine_streamed(folder: Path, clusters: int, passes: int) -> dict[str, Any]:
    """What the stage does with a miner that streams; seconds and memory."""
    from stages.mine.miners.minibatch_kmeans import MiniBatchKMeans, MiniBatchParams
    from stages.mine.streaming import stream_features

    with Peak() as peak:
        began = time.perf_counter()
        keys, features = stream_features(folder / "embeddings.parquet", "train", folder)
        read = time.perf_counter() - began
        MiniBatchKMeans(MiniBatchParams(clusters=clusters, passes=passes), 0).mine(features, None, folder)
        seconds = time.perf_counter() - began
    return {
        "seconds": round(seconds, 1), "seconds_reading": round(read, 1),
        "rows_per_second": round(len(keys) * (passes + 1) / (seconds - read)), "anonymous_mib": peak.mib,
    }  # fmt: skip


def anonymous() -> int:
    """Bytes of this process's memory that no file backs."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) << 10
    raise OSError("the kernel does not tell RssAnon")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=["kmeans", "apart", "graph", "stream"], help="default: all")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--stream-rows", type=int, default=1_000_000)
    parser.add_argument("--peer", action="append", choices=PEERS, help="of k-means; default: all")
    parser.add_argument("--mine", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    prepare_process()
    import torch

    torch.set_num_threads(threads())
    if a.mine:
        print(json.dumps(mine_streamed(a.mine, a.clusters, a.passes)))
        return
    from reprise.storage.provenance import machine, versions

    parts = a.part or ["kmeans", "apart", "graph", "stream"]
    peers = a.peer or PEERS
    found: dict[str, Any] = {"machine": machine(), "threads": threads(), "versions": versions()}
    if "kmeans" in parts:
        found["kmeans"] = kmeans(a.rows, 128, a.clusters, a.repeats, peers)
    if "apart" in parts:
        found["apart"] = apart()
    if "graph" in parts:
        found["graph"] = graph(a.rows, 512, 10, a.repeats)
    if "stream" in parts:
        found["stream"] = stream(a.stream_rows, 128, a.clusters, a.passes)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
