"""The arithmetic of benchmarks/cost against a naive restatement, and that every result calls itself extrapolated."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks.cost.__main__ import main
from benchmarks.cost.arithmetic import Prices, Scale, Slopes, against, extrapolate

SLOPES = Slopes(
    ingest_seconds=0.003,
    shard_seconds=0.0005,
    embed_seconds=0.02,
    shard_bytes=5000.0,
    manifest_bytes=90.0,
    index_bytes=70.0,
    manifest_memory=300.0,
    index_memory=900.0,
    order_memory=40.0,
    kmeans_seconds=0.7,
    neighbours_seconds=1e-9,
    step_seconds=0.05,
    dask_seconds=0.01,
)
SCALE = Scale(
    images=1_000_000,
    image_bytes=100_000.0,
    epochs=10,
    runs=5,
    jobs=2,
    ranks=12,
    node_gpus=8,
    gpu_images_a_second=2000.0,
    rank_efficiency=0.5,
    workers=4,
    moves=3,
)
PRICES = Prices(gpu_hour=2.0, core_hour=0.05, terabyte_month=20.0)


def test_each_number_is_what_a_loop_over_images_and_blocks_gives() -> None:
    """Naively: walk over blocks and images, add up; only the speed of 12 GPUs at half efficiency is divided by."""
    n = SCALE.images
    ingest = sum(0.003 for _ in range(n)) + sum(0.01 for _ in range(0, n, 64))
    shard = 500.0
    embed = 20_000.0 + sum(0.01 for _ in range(0, n, 2048))
    kmeans = sum(0.7 + 0.01 + 0.01 for _ in range(3) for _ in range(0, n, 65536))
    store = n * (100_000 + 2048) + n * 90 + n * 70
    epoch = n / (12 * 1000)
    cores = (ingest + shard + embed + kmeans) / 3600
    expected = {
        "shards, manifest and index on the store": store,
        "nodes of a training": 2,
        "read by each node while it trains": 8 * 1000 * 102_048,
        "manifest in memory": 300e6,
        "index in the memory of each process": 900e6,
        "order of guided batches in each process": 40e6,
        "ingest on 4 workers": ingest / 4,
        "shard on 4 workers": shard / 4,
        "embed on 4 workers": embed / 4,
        "kmeans on 4 workers": kmeans / 4,
        "all nearest neighbours on 4 workers": 1e12 * 1e-9 / 4,
        "one epoch": epoch,
        "one training of 10 epochs": 10 * epoch,
        "5 trainings, 2 at once": 3 * 10 * epoch,
        "the same epoch on one core like this one": 50_000.0,
        "GPUs of all trainings": 5 * 10 * epoch * 12 / 3600 * 2.0,
        "cores of ingest, shard, embed and kmeans": cores * 0.05,
        "the store, for a month": store / 1e12 * 20,
    }
    rows = {row.quantity: row for row in extrapolate(SLOPES, SCALE, PRICES)}
    assert rows.keys() == expected.keys()
    for name, value in expected.items():
        assert math.isclose(rows[name].value, value, rel_tol=1e-6), name


def test_measured_images_have_their_measured_bytes() -> None:
    rows = {r.quantity: r.value for r in extrapolate(SLOPES, replace(SCALE, image_bytes=None), PRICES)}
    assert math.isclose(rows["shards, manifest and index on the store"], 1e6 * (5000 + 90 + 70))


def test_the_table_grows_with_images_and_shrinks_with_workers() -> None:
    rows = against(SLOPES, SCALE, [1000, 64_000], [1, 8])
    assert all(name.startswith("extrapolated_") for row in rows for name in row)
    by = {(row["extrapolated_images"], row["extrapolated_workers"]): row["extrapolated_ingest_s"] for row in rows}
    assert math.isclose(by[64_000, 1], 64_000 * 0.003 + 1000 * 0.01)
    assert math.isclose(by[64_000, 8], by[64_000, 1] / 8)


GIVEN = {"images": 100_000, "image-bytes": 1000, "ranks": 2, "node-gpus": 1, "gpu-images-a-second": 100, "epochs": 1}
COMMAND = [f"--{name}={value}" for name, value in {**GIVEN, "workers": 2}.items()]


@pytest.mark.parametrize("left_out", ["gpu-hour", "core-hour", "terabyte-month"])
def test_no_price_is_invented(left_out: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"--price-{name}=1" for name in ("gpu-hour", "core-hour", "terabyte-month") if name != left_out]
    with pytest.raises(SystemExit):
        main([*COMMAND, *given])
    assert f"--price-{left_out}" in capsys.readouterr().err


@pytest.mark.slow
def test_every_line_says_what_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    prices = [f"--price-{name}=1" for name in ("gpu-hour", "core-hour", "terabyte-month")]
    report = main([*COMMAND, *prices, "--toy", "--repeats", "1"])
    lines = capsys.readouterr().out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("extrapolated_images,"))
    assert all(line.startswith(("measured on ", "given: ", "extrapolation: ")) for line in lines[:head])
    assert all(column.startswith("extrapolated_") for column in lines[head].split(","))
    assert len(lines) == head + 1 + 9
    for name in ("shard_bytes", "index_bytes", "manifest_memory", "index_memory", "order_memory", "dask_seconds"):
        assert report["measured"][name] > 0, name
