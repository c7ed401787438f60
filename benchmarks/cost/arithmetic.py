"""From slopes to seconds, bytes and money at another scale. Nothing here is measured; every result is an extrapolation.

It assumes that costs grow with images and are shared evenly by workers, and that ranks lose nothing to each other
unless `rank_efficiency` says so. Nobody has run that scale, so each row also says from which numbers it comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BLOCK_IMAGES = {"ingest": 64, "embed": 2048}  # of a block on Dask: 64 files, and 8 batches of 256
SUM_ROWS = 1 << 16  # rows of a block of k-means


@dataclass(frozen=True)
class Slopes:
    """What one more image (or block) costs, as it was measured on one core of this machine.

    Attributes:
        ingest_seconds, shard_seconds, embed_seconds: an image.
        shard_bytes: of the tars, an image, with its JSON member and headers.
        manifest_bytes, index_bytes: of the Parquet files, an image.
        manifest_memory: bytes an image of Arrow's buffers, where a stage reads the whole table.
        index_memory: private bytes of a process for an image of the open index.
        order_memory: bytes an image of the guided batches of one epoch, at their peak.
        kmeans_seconds: a block of SUM_ROWS rows, one move, with the centres and dimensions that were measured.
        neighbours_seconds: a query against one row of the bank.
        step_seconds: an image of a training step on one core of this machine.
        dask_seconds: what Dask adds to a block.
    """

    ingest_seconds: float
    shard_seconds: float
    embed_seconds: float
    shard_bytes: float
    manifest_bytes: float
    index_bytes: float
    manifest_memory: float
    index_memory: float
    order_memory: float
    kmeans_seconds: float
    neighbours_seconds: float
    step_seconds: float
    dask_seconds: float


@dataclass(frozen=True)
class Scale:
    """The scale that is asked about; all of it is given.

    Attributes:
        images: in the data set.
        image_bytes: of an image in the shards, without headers; None takes the images that were measured.
        epochs: of each training.
        runs: trainings, of all methods and seeds.
        jobs: trainings at once.
        ranks: GPUs of one training.
        node_gpus: GPUs of one node.
        gpu_images_a_second: that one GPU trains.
        rank_efficiency: share of that speed that is left with all ranks.
        workers: cores for ingest, shards, embedding and k-means.
        moves: of k-means.
    """

    images: int
    image_bytes: float | None
    epochs: int
    runs: int
    jobs: int
    ranks: int
    node_gpus: int
    gpu_images_a_second: float
    rank_efficiency: float
    workers: int
    moves: int


@dataclass(frozen=True)
class Prices:
    """What somebody pays, in one currency.

    Attributes:
        gpu_hour, core_hour: of one GPU, of one core.
        terabyte_month: of 10^12 bytes on the store.
    """

    gpu_hour: float
    core_hour: float
    terabyte_month: float


@dataclass(frozen=True)
class Row:
    """One extrapolated number.

    Attributes:
        quantity: what it is.
        value: the number.
        unit: of it.
        how: from which numbers it was computed.
    """

    quantity: str
    value: float
    unit: str
    how: str


def extrapolate(slopes: Slopes, scale: Scale, prices: Prices) -> list[Row]:
    """Compute all rows for one scale."""
    return [
        *_bytes(slopes, scale),
        *_preparation(slopes, scale),
        *_training(slopes, scale),
        *_money(slopes, scale, prices),
    ]


def stored_bytes(slopes: Slopes, scale: Scale) -> float:
    """Return the bytes of shards, manifest and index on the store."""
    return scale.images * (_image_bytes(slopes, scale) + slopes.manifest_bytes + slopes.index_bytes)


def _image_bytes(slopes: Slopes, scale: Scale) -> float:
    """Bytes of an image in a tar; given images take a header and padding of tar, and a JSON member: 2 KiB."""
    return slopes.shard_bytes if scale.image_bytes is None else scale.image_bytes + 2048


def core_seconds(slopes: Slopes, scale: Scale) -> dict[str, float]:
    """Return the seconds of one core for each stage that workers share, what Dask adds included."""
    n, added = scale.images, slopes.dask_seconds
    blocks = -(-n // SUM_ROWS)
    return {
        "ingest": n * slopes.ingest_seconds + -(-n // BLOCK_IMAGES["ingest"]) * added,
        "shard": n * slopes.shard_seconds,
        "embed": n * slopes.embed_seconds + -(-n // BLOCK_IMAGES["embed"]) * added,
        "kmeans": scale.moves * blocks * (slopes.kmeans_seconds + 2 * added),
    }


def epoch_seconds(scale: Scale) -> float:
    """Return the seconds of one epoch on all ranks of a training."""
    return scale.images / (scale.ranks * scale.gpu_images_a_second * scale.rank_efficiency)


def _bytes(slopes: Slopes, scale: Scale) -> list[Row]:
    n, nodes = scale.images, -(-scale.ranks // scale.node_gpus)
    images = min(scale.node_gpus, scale.ranks) * scale.gpu_images_a_second * scale.rank_efficiency
    read = images * _image_bytes(slopes, scale)
    each = "images x measured bytes an image"
    return [
        Row("shards, manifest and index on the store", stored_bytes(slopes, scale), "bytes", "images x bytes an image"),
        Row("nodes of a training", nodes, "nodes", "ranks / GPUs of a node"),
        Row("read by each node while it trains", read, "bytes/s", "images/s of its GPUs x bytes an image, uncached"),
        Row("manifest in memory", n * slopes.manifest_memory, "bytes", each),
        Row("index in the memory of each process", n * slopes.index_memory, "bytes", each),
        Row("order of guided batches in each process", n * slopes.order_memory, "bytes", each),
    ]


def _preparation(slopes: Slopes, scale: Scale) -> list[Row]:
    seconds, count = core_seconds(slopes, scale), scale.workers
    how = "images (or blocks) x measured seconds / workers, with Dask's seconds a block"
    pairs = "images x images x measured seconds a pair / workers"
    exact = scale.images**2 * slopes.neighbours_seconds / count
    return [
        *(Row(f"{name} on {count} workers", total / count, "s", how) for name, total in seconds.items()),
        Row(f"all nearest neighbours on {count} workers", exact, "s", pairs),
    ]


def _training(slopes: Slopes, scale: Scale) -> list[Row]:
    one, core = scale.epochs * epoch_seconds(scale), scale.images * slopes.step_seconds
    rounds = -(-scale.runs // scale.jobs)
    return [
        Row("one epoch", epoch_seconds(scale), "s", "images / (ranks x given images/s of a GPU x given efficiency)"),
        Row(f"one training of {scale.epochs} epochs", one, "s", "epochs x one epoch"),
        Row(f"{scale.runs} trainings, {scale.jobs} at once", rounds * one, "s", "rounded up rounds x one training"),
        Row("the same epoch on one core like this one", core, "s", "images x measured seconds of a small network"),
    ]


def _money(slopes: Slopes, scale: Scale, prices: Prices) -> list[Row]:
    gpus = scale.runs * scale.epochs * epoch_seconds(scale) * scale.ranks / 3600 * prices.gpu_hour
    cores = sum(core_seconds(slopes, scale).values()) / 3600 * prices.core_hour
    store = stored_bytes(slopes, scale) / 1e12 * prices.terabyte_month
    return [
        Row("GPUs of all trainings", gpus, "money", "GPU hours x given price"),
        Row("cores of ingest, shard, embed and kmeans", cores, "money", "core hours x given price"),
        Row("the store, for a month", store, "money", "terabytes x given price"),
    ]


def against(slopes: Slopes, scale: Scale, images: list[int], workers: list[int]) -> list[dict[str, float]]:
    """Compute seconds and bytes for several numbers of images and of workers.

    Returns:
        One row each, whose columns are all called extrapolated.
    """
    rows = []
    for n in images:
        for count in workers:
            at = replace(scale, images=n, workers=count)
            seconds = {f"extrapolated_{k}_s": v / count for k, v in core_seconds(slopes, at).items()}
            shards = {"extrapolated_store_bytes": stored_bytes(slopes, at), "extrapolated_epoch_s": epoch_seconds(at)}
            rows.append({"extrapolated_images": n, "extrapolated_workers": count, **seconds, **shards})
    return rows
