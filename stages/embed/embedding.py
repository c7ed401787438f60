"""Run a frozen backbone on all images: scaled to its input size, centre cropped, normalised as in training, float32."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from reprise.artifacts import layout
from reprise.artifacts.backbones import open_weights, preparation_of, read_config
from reprise.artifacts.checkpoints import latest_checkpoint, save_checkpoint
from reprise.artifacts.embeddings import FILE, write_embeddings
from reprise.artifacts.shards import Shards
from reprise.config.registry import module_of
from reprise.networks.assemble import assemble
from reprise.reading.decoded import Decoded, open_decoded
from reprise.runtime.device import Compute, resolve_compute
from reprise.storage.atomic import atomic_directory
from reprise.storage.progress import Progress
from reprise.storage.provenance import record
from reprise.storage.work_folder import file_digest, work_folder
from stages.embed import augmented
from stages.embed.params import EmbedParams

CHUNK = 50_000  # images between two checkpoints; a kill costs no more than these


def embed(run: str, seed: int, params: EmbedParams, out: Path, restart: bool = False) -> None:
    """Write `embeddings.parquet` of one trained run, and `augmented.parquet` unless the parameters ask for none.

    The second has the same format with a column for each change (stages/embed/augmented.py). Of more than CHUNK images,
    finished chunks survive a kill.

    Args:
        run: name of the run.
        seed: that it was trained with.
        params: batch size, number of changed images, device.
        out: folder to write.
        restart: discard chunks of an earlier process.

    Raises:
        BackboneError: the weights cannot be loaded.
        EmbeddingError: values are not finite.
    """
    began = time.monotonic()
    compute = resolve_compute(params.device, "fp32")
    folder = layout.run(run, seed)
    config = read_config(folder)
    network = assemble(config, *open_weights(folder), where=str(folder)).to(compute.device)
    shards = Shards.open()
    inputs = {
        "run": file_digest(folder),
        "shards": shards.fingerprint,
        "embed": params.model_dump(),
        "chunk": CHUNK,
        "device": compute.device,
        "threads": compute.threads,
        "torch": torch.__version__,
    }
    code = [__name__, module_of("backbones", config["architecture"])]
    with work_folder(f"embed/{run}/{seed}", inputs, code, restart) as work:
        taps = embed_chunks(network, shards, config, params.batch_size, compute, f"embed {run} seed {seed}", work)
        with atomic_directory(out) as target:
            write_embeddings(target / FILE, shards.keys, shards.splits, taps)
            if params.augmented:
                rows = augmented.chosen_rows(shards.keys, shards.splits, params.augmented)
                changes = embed_changes(network, shards, rows, config, params.batch_size, compute.device)
                write_embeddings(target / augmented.FILE, shards.keys[rows], shards.splits[rows], changes)
    record(f"embed/{run}/{seed}", began, {"images_per_second": round(len(shards) / (time.monotonic() - began), 1)})


def embed_chunks(
    network: torch.nn.Module,
    shards: Shards,
    config: dict,
    batch_size: int,
    compute: Compute,
    label: str,
    work: Path,
) -> dict[str, np.ndarray]:
    """Compute the features of all images, CHUNK at a time; read chunks that `work` holds, and keep new ones there.

    Chunks begin at whole batches, so that each batch has the images, and its features the bits, that it would have
    without chunks.
    """
    decoded = open_decoded(shards, shards.rows(), config["channels"], None, threads=compute.threads)
    step = max(1, CHUNK // batch_size) * batch_size
    parts = []
    with Progress(label, len(decoded)) as progress:
        for start in range(0, len(decoded), step):
            place = work / f"from-{start:012d}"
            stop = min(start + step, len(decoded))
            part = latest_checkpoint(place)
            if part is None:
                part = embed_rows(network, decoded, range(start, stop), config, batch_size, compute.device, progress)
                if step < len(decoded):
                    place.mkdir(exist_ok=True)
                    save_checkpoint(place, 0, part)
            else:
                progress.advance(stop - start)
            parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def embed_rows(
    network: torch.nn.Module,
    decoded: Decoded,
    rows: range,
    config: dict,
    batch_size: int,
    device: str,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Compute the features of consecutive images: {tap: (n, d) float32}."""
    found: dict[str, list[np.ndarray]] = {}
    for start in range(rows.start, rows.stop, batch_size):
        stop = min(start + batch_size, rows.stop)
        pixels = decoded.resized(config["input_size"], range(start, stop), **preparation_of(config))
        for name, value in features(network, pixels, config, device).items():
            found.setdefault(name, []).append(value)
        progress.advance(stop - start)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def features(network: torch.nn.Module, pixels: np.ndarray, config: dict, device: str) -> dict[str, np.ndarray]:
    """Compute the features of one batch, (n, S, S, C) uint8 -> {tap: (n, d) float32}."""
    mean = torch.tensor(config["mean"], device=device).view(1, -1, 1, 1)
    std = torch.tensor(config["std"], device=device).view(1, -1, 1, 1)
    with torch.inference_mode():
        x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(255.0)
        x = ((x - mean) / std).contiguous(memory_format=torch.channels_last)
        return {name: value.float().cpu().numpy() for name, value in network(x).items()}


def embed_changes(
    network: torch.nn.Module, shards: Shards, rows: np.ndarray, config: dict, batch_size: int, device: str
) -> dict[str, np.ndarray]:
    """Compute the backbone's features of images and of their changed copies.

    Returns:
        {"original": (n, d), change: (n, d), ...}, float32.
    """
    decoded = open_decoded(shards, rows, config["channels"], None, max_bytes=0)  # too few to cache
    step = max(1, batch_size // (1 + len(augmented.CHANGES)))
    found: dict[str, list[np.ndarray]] = {name: [] for name in (augmented.ORIGINAL, *augmented.CHANGES)}
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        here = range(start, start + len(part))
        originals = list(decoded.resized(config["input_size"], here, **preparation_of(config)))
        pixels = originals + [
            augmented.changed(image, name, str(shards.keys[row]))
            for name in augmented.CHANGES
            for image, row in zip(originals, part, strict=True)
        ]
        values = features(network, np.stack(pixels), config, device)["backbone"]
        for name, block in zip(found, np.split(values, len(found)), strict=True):
            found[name].append(block)
    return {name: np.concatenate(parts) for name, parts in found.items()}
