"""Run a frozen backbone on all images: scaled to its input size, centre cropped, normalised as in training, float32."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprise.artifacts import layout
from reprise.artifacts.embeddings import FILE, PASSES, write_embeddings
from reprise.artifacts.shards import Shards
from reprise.artifacts.tables.columns import Keys
from reprise.artifacts.weights.backbones import open_weights, preparation_of, read_config
from reprise.artifacts.weights.checkpoints import latest_checkpoint, save_checkpoint
from reprise.config.errors import EmbeddingError
from reprise.config.plug_ins.registry import module_of
from reprise.config.shared_sections import DEFAULT_CACHE, CacheParams
from reprise.media.lookup import IMAGE
from reprise.networks.assemble import assemble
from reprise.networks.axes import normalised
from reprise.networks.peaks import WithPeaks
from reprise.reading.ahead import ahead
from reprise.reading.by_path import SquaresByPath
from reprise.reading.decoded import open_decoded
from reprise.reading.entry import in_threads
from reprise.runtime.blocks.shared import newest
from reprise.runtime.blocks.use import asked, cluster
from reprise.runtime.device import Compute, resolve_compute
from reprise.storage.atomic import atomic_directory
from reprise.storage.progress import Progress, track
from reprise.storage.provenance import record
from reprise.storage.work_folder import file_digest, work_folder
from stages.embed import augmented
from stages.embed.bag import BagOfPatches
from stages.embed.params import EmbedParams

BLOCK_BATCHES = 8  # batches that a Dask worker embeds at a time
WORTH_CLUSTER = 2 * BLOCK_BATCHES  # batches; fewer are embedded before workers have loaded torch
CHUNK = 50_000  # images between two checkpoints; a kill costs no more than these


def embed(
    run: str,
    seed: int,
    params: EmbedParams,
    out: Path,
    restart: bool = False,
    cache: CacheParams = DEFAULT_CACHE,
) -> None:
    """Write `embeddings.parquet` of one trained run, and `augmented.parquet` unless the parameters ask for none.

    The second has the same format with a column for each change (stages/embed/augmented.py). Of more than CHUNK images,
    finished chunks survive a kill.

    Args:
        run: name of the run.
        seed: that it was trained with.
        params: batch size, number of changed images, device, precision.
        out: folder to write.
        restart: discard chunks of an earlier process.
        cache: bounds of the cache of decoded images.

    Raises:
        BackboneError: the weights cannot be loaded.
        EmbeddingError: values are not finite.
    """
    began = time.monotonic()
    compute = resolve_compute(params.device, params.precision)
    folder = layout.run(run, seed)
    config = read_config(folder)
    network = frozen_network(folder, config, params, compute)
    shards = Shards.open()
    size = params.images_at_a_time(as_square(config["input_size"], shards.modality), compute.device)
    show_limits(shards.modality, params, f"embed {run} seed {seed}")
    elsewhere = AtWorkers.of(folder, params, compute, shards, size)
    squares = elsewhere.squares.open() if elsewhere else squares_for(shards, config, compute.threads, cache)
    inputs = {
        "run": file_digest(folder),
        "shards": shards.fingerprint,
        "embed": params.model_dump() | {"batch_size": size},
        "chunk": CHUNK,
        "device": compute.device,
        "precision": compute.precision,
        "threads": compute.threads,
        "torch": torch.__version__,
    }
    code = [__name__, module_of("backbones", config["architecture"])]
    with work_folder(f"embed/{run}/{seed}", inputs, code, restart) as work:
        taps = embed_chunks(network, squares, config, size, compute, f"embed {run} seed {seed}", work, elsewhere)
        if params.two_passes and shards.modality == IMAGE:
            taps |= embed_passes(network, squares, shards.keys, config, size, compute, work)
        with atomic_directory(out) as target:
            write_embeddings(target / FILE, shards.keys, shards.splits, taps)
            if params.augmented and shards.modality == IMAGE:
                rows = augmented.chosen_rows(shards.keys, shards.splits, params.augmented)
                changes = embed_changes(network, squares, shards.keys, rows, config, size, compute)
                write_embeddings(target / augmented.FILE, shards.keys[rows], shards.splits[rows], changes)
    record(f"embed/{run}/{seed}", began, {"images_per_second": round(len(shards) / (time.monotonic() - began), 1)})


def as_square(side: int, modality: str) -> int:
    """Return the side of the square that has as many pixels as a sample of this side: of a volume, its cube."""
    return side if modality == IMAGE else math.isqrt(side**3)


def show_limits(modality: str, params: EmbedParams, label: str) -> None:
    """Say on stderr what is left out of samples that are no images.

    Raises:
        EmbeddingError: they would be embedded by patches.
    """
    if modality == IMAGE:
        return
    if params.bag:
        raise EmbeddingError(
            f"{modality}s are embedded whole, not as bags of patches",
            where="embed.bag",
            found=params.bag,
            fix="Set it to null.",
        )
    if params.augmented:
        print(
            f"note: {label}: no changed copies are embedded (embed.augmented), because their changes are those of "
            f"images and these are {modality}s; probes of invariance are left out.",
            file=sys.stderr,
            flush=True,
        )


def frozen_network(folder: Path, config: dict[str, Any], params: EmbedParams, compute: Compute) -> torch.nn.Module:
    """Build the network of a run's folder on the device that computes.

    Raises:
        BackboneError: the weights cannot be loaded.
    """
    network: torch.nn.Module = assemble(config, *open_weights(folder), where=str(folder)).to(compute.device)
    if params.units:
        return WithPeaks(network, config["channels"], config["input_size"], str(folder))
    return BagOfPatches(network, params.bag, params.bag_area) if params.bag else network


def squares_for(shards: Shards, config: dict[str, Any], threads: int, cache: CacheParams) -> np.ndarray:
    """Return all images as the squares that a backbone sees, decoded once for all runs: (n, S, S, C) uint8.

    Args:
        shards: the images.
        config: of the backbone.
        threads: images decoded at the same time.
        cache: bounds.
    """
    bounds = cache.bounds
    decoded = open_decoded(shards, shards.rows(), config["channels"], threads=threads, at_once=False, **bounds)
    return decoded.squares(config["input_size"], **preparation_of(config))


def embed_chunks(
    network: torch.nn.Module,
    squares: np.ndarray,
    config: dict[str, Any],
    batch_size: int,
    compute: Compute,
    label: str,
    work: Path,
    elsewhere: AtWorkers | None = None,
) -> dict[str, np.ndarray]:
    """Compute the features of all images, CHUNK at a time; read chunks that `work` holds, and keep new ones there.

    Chunks begin at whole batches, so that each batch has the images, and its features the bits, that it would have
    without chunks. So do the blocks of Dask workers, if `elsewhere` lets them compute the chunks.
    """
    step = max(1, CHUNK // batch_size) * batch_size
    parts = []
    with Progress(label, len(squares)) as progress:
        for start in range(0, len(squares), step):
            place = work / f"from-{start:012d}"
            stop = min(start + step, len(squares))
            part = latest_checkpoint(place)
            if part is None:
                rows = range(start, stop)
                part = elsewhere.embedded(rows, progress) if elsewhere is not None else None
                if part is None:
                    part = embed_rows(network, squares, rows, config, batch_size, compute, progress)
                if step < len(squares):
                    place.mkdir(exist_ok=True)
                    save_checkpoint(place, 0, part)
            else:
                progress.advance(stop - start)
            parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class AtWorkers:
    """What a Dask worker needs to embed rows of the shards: it loads the network and reads the images itself.

    Attributes:
        folder: of the run.
        params: of the stage.
        compute: of the stage, on a CPU.
        squares: where the images are.
        batch_size: images at a time.
    """

    folder: Path
    params: EmbedParams
    compute: Compute
    squares: SquaresByPath
    batch_size: int

    @classmethod
    def of(
        cls, folder: Path, params: EmbedParams, compute: Compute, shards: Shards, batch_size: int
    ) -> AtWorkers | None:
        """Return what workers need; None where no cluster is used, for few images, and on a GPU."""
        if asked() is None or compute.device != "cpu" or len(shards) < WORTH_CLUSTER * batch_size:
            return None
        config = read_config(folder)
        prepared = tuple(sorted(preparation_of(config).items()))
        squares = SquaresByPath(
            None, config["channels"], config["input_size"], shards.fingerprint, compute.threads, prepared
        )
        return cls(folder, params, compute, squares, batch_size)

    def embedded(self, rows: range, progress: Progress) -> dict[str, np.ndarray] | None:
        """Let the cluster embed rows; None in a process that may not use one."""
        found = cluster()
        if found is None:
            return None
        starts = range(rows.start, rows.stop, BLOCK_BATCHES * self.batch_size)
        blocks = [range(start, min(start + starts.step, rows.stop)) for start in starts]
        parts = []
        code = [module_of("backbones", read_config(self.folder)["architecture"])]
        for block, part in zip(blocks, found.computed(partial(_embed_block, self), blocks, code), strict=True):
            parts.append(part)
            progress.advance(len(block))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _embed_block(at: AtWorkers, rows: range) -> dict[str, np.ndarray]:
    """Embed rows in a worker: {tap: (n, d) float32}."""
    config = read_config(at.folder)
    key = "network", at.folder, at.params
    network = newest(key, lambda: frozen_network(at.folder, config, at.params, at.compute))
    squares = newest(("squares", at.squares), at.squares.open)
    with Progress("embed", len(rows)) as progress:
        return embed_rows(network, squares, rows, config, at.batch_size, at.compute, progress)


def embed_passes(
    network: torch.nn.Module,
    squares: np.ndarray,
    keys: Keys,
    config: dict[str, Any],
    batch_size: int,
    compute: Compute,
    work: Path,
) -> dict[str, np.ndarray]:
    """Compute the backbone's features of two changed copies of each image: {"pass1": (n, d), "pass2": (n, d)}."""
    found = {}
    for number, name in enumerate(PASSES, start=1):
        copies: Any = augmented.ChangedCopies(squares, keys, number, compute.threads)
        place = work / name
        place.mkdir(exist_ok=True)
        found[name] = embed_chunks(network, copies, config, batch_size, compute, f"embed {name}", place)["backbone"]
    return found


def embed_rows(
    network: torch.nn.Module,
    squares: np.ndarray,
    rows: range,
    config: dict[str, Any],
    batch_size: int,
    compute: Compute,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Compute the features of consecutive images: {tap: (n, d) float32}. The next batch is read meanwhile."""
    starts = range(rows.start, rows.stop, batch_size)
    read = ahead(lambda start: on_host(squares[start : min(start + batch_size, rows.stop)], compute.device), starts)
    found: dict[str, list[Tensor]] = {}
    for pixels in read:
        for name, value in features(network, pixels, config, compute).items():
            found.setdefault(name, []).append(value)
        progress.advance(len(pixels))
    return {name: torch.cat(parts).cpu().numpy() for name, parts in found.items()}


def on_host(pixels: np.ndarray, device: str) -> Tensor:
    """Copy (n, S, S, C) uint8 pixels to memory from which a GPU reads while it computes."""
    copied = torch.from_numpy(np.array(pixels))
    return copied.pin_memory() if device == "cuda" else copied


def features(network: torch.nn.Module, pixels: Tensor, config: dict[str, Any], compute: Compute) -> dict[str, Tensor]:
    """Compute the features of one batch, (n, S, S, C) uint8 -> {tap: (n, d) float32 on the device}."""
    with torch.inference_mode():
        x = normalised(pixels.to(compute.device, non_blocking=True), config["mean"], config["std"])
        with compute.autocast():
            return {name: value.float() for name, value in network(x).items()}


def embed_changes(
    network: torch.nn.Module,
    squares: np.ndarray,
    keys: Keys,
    rows: np.ndarray,
    config: dict[str, Any],
    batch_size: int,
    compute: Compute,
) -> dict[str, np.ndarray]:
    """Compute the backbone's features of images and of their changed copies. The next batch is changed meanwhile.

    Args:
        network, squares, config: as for `embed_rows`.
        keys: of all images.
        rows: positions of those that are changed.
        batch_size: images and copies at a time.
        compute: where, and by how many threads images are changed.

    Returns:
        {"original": (n, d), change: (n, d), ...}, float32.
    """
    names = (augmented.ORIGINAL, *augmented.CHANGES)
    step = max(1, batch_size // len(names))

    def copies(start: int) -> Tensor:
        part = rows[start : start + step]
        pixels = np.empty((len(names), len(part), *squares.shape[1:]), np.uint8)
        pixels[0] = squares[part]

        def change(number: int) -> None:
            which, i = divmod(number, len(part))
            pixels[1 + which, i] = augmented.changed(pixels[0, i], names[1 + which], str(keys[part[i]]))

        in_threads(change, len(augmented.CHANGES) * len(part), compute.threads, 1)
        return on_host(pixels.reshape(-1, *squares.shape[1:]), compute.device)

    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    starts = range(0, len(rows), step)
    for pixels in track(ahead(copies, starts), "embed changed images", len(starts), "batches"):
        values = features(network, pixels, config, compute)["backbone"].cpu().numpy()
        for name, block in zip(names, np.split(values, len(names)), strict=True):
            found[name].append(block)
    return {name: np.concatenate(parts) for name, parts in found.items()}
