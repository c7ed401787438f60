"""Measure the slopes: each stage's own code at two sizes, in one run, on one core of this machine.

A slope is the difference of two sizes over the difference of their images, so what a stage pays once falls out.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.cost import index
from benchmarks.cost.arithmetic import SUM_ROWS, Slopes
from benchmarks.parts.stage_work import Sizes, project

CLUSTERS = 1000  # of the guided order
BLOCKS = 100  # empty ones on Dask


def slopes(sizes: Sizes, repeats: int, order_images: int = 1_000_000) -> Slopes:
    """Measure all slopes.

    Args:
        sizes: the larger of the two; the smaller has half as many images.
        repeats: of which the median counts.
        order_images: whose guided order is drawn; at least 200,000 rows of an index are opened, and four times as many.
    """
    small, large = (_stages(replace(sizes, images=n), repeats) for n in (sizes.images // 2, sizes.images))
    images = sizes.images - sizes.images // 2

    def slope(name: str) -> float:
        return max(0.0, (large[name] - small[name]) / images)

    return Slopes(
        ingest_seconds=slope("ingest"),
        shard_seconds=slope("shard"),
        embed_seconds=slope("embed"),
        shard_bytes=slope("shard bytes"),
        manifest_bytes=slope("manifest bytes"),
        index_bytes=slope("index bytes"),
        manifest_memory=slope("manifest memory"),
        index_memory=index_memory(max(order_images, 200_000)),
        order_memory=order_memory(order_images),
        kmeans_seconds=large["kmeans"] / (sizes.rows / SUM_ROWS),
        neighbours_seconds=large["neighbours"] / sizes.queries**2,
        step_seconds=step_seconds(repeats),
        dask_seconds=dask_seconds(),
    )


def _stages(sizes: Sizes, repeats: int) -> dict[str, float]:
    found: dict[str, float] = {}
    with project(sizes) as stages:
        for name in ("ingest", "shard", "embed", "kmeans", "neighbours"):
            found[name] = _median(stages[name], repeats)
        found["shard bytes"] = sum(path.stat().st_size for path in Path("data/shards").glob("*.tar"))
        found["manifest bytes"] = Path("data/ingest/manifest.parquet").stat().st_size
        found["index bytes"] = Path("data/shards/index.parquet").stat().st_size
        found["manifest memory"] = _manifest_memory()
    return found


def _median(call: Callable[[], int], repeats: int) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _manifest_memory() -> float:
    """Return the bytes of Arrow's buffers of the whole manifest."""
    from reprise.artifacts.manifest import read_manifest

    return float(read_manifest().nbytes)


def index_memory(images: int) -> float:
    """Return the private bytes of a process for one more image of an open index, from `images` and four times as many.

    They are the pages that the kernel counts for the process alone, so they include what allocators keep.
    """
    with tempfile.TemporaryDirectory() as folder:
        held = {}
        for rows in (1000, images, 4 * images):
            index.write(Path(folder) / str(rows), rows)
            held[rows] = rows * index.opened(Path(folder) / "1000", Path(folder) / str(rows), 1)[1]
    return max(0.0, (held[4 * images] - held[images]) / (3 * images))


def order_memory(images: int) -> float:
    """Return the peak bytes an image while the guided batches of an epoch are drawn and held."""
    from reprise.reading.order import guided_batches

    rng = np.random.default_rng(0)
    clusters = rng.integers(0, CLUSTERS, images)
    tracemalloc.start()
    try:
        batches = guided_batches(clusters, 4096, rng)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(map(len, batches)) == images
    return peak / images


def step_seconds(repeats: int) -> float:
    """Return the seconds an image of forward and backward passes of two views: `resnet_tiny`, 64 pixels, fp32."""
    import torch

    from reprise.networks.backbone import build_backbone
    from reprise.objectives.nt_xent import nt_xent

    network, batch = build_backbone("resnet_tiny", 3, 64), 32
    views = torch.randn(2 * batch, 3, 64, 64)

    def step() -> int:
        first, second = network(views).chunk(2)
        nt_xent(first, second, 0.5).backward()
        return batch

    return _median(step, repeats) / batch


def dask_seconds() -> float:
    """Return the seconds that Dask adds to a block, with one worker on this machine."""
    from reprise.config.errors import printable
    from reprise.runtime.blocks import use

    before = os.environ.get(use.VARIABLE)
    os.environ[use.VARIABLE] = "local:1"
    try:
        cluster = use.cluster()
        assert cluster is not None
        list(cluster.computed(printable, range(BLOCKS)))
        began = time.perf_counter()
        list(cluster.computed(printable, range(BLOCKS)))
        return (time.perf_counter() - began) / BLOCKS
    finally:
        use.close()
        with suppress(KeyError):
            del os.environ[use.VARIABLE]
        if before is not None:
            os.environ[use.VARIABLE] = before
