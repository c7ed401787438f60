"""A frozen backbone over all images: scaled to its input size, centre cut, normalised as in training, float32."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from stages.contracts.atomic import atomic_directory
from stages.contracts.backbones import read_config, read_weights
from stages.contracts.decoded import open_decoded
from stages.contracts.embeddings import FILE, write_embeddings
from stages.contracts.images import square
from stages.contracts.provenance import record
from stages.contracts.shards import Shards
from stages.embed.params import EmbedParams
from stages.networks.assemble import assemble
from stages.runtime.device import resolve_compute
from stages.runtime.progress import Progress


def embed(run: str, seed: int, params: EmbedParams, out: Path) -> None:
    """Write `embeddings.parquet` for one trained run.

    Raises:
        BackboneError: the weights cannot be loaded. EmbeddingError: values that are not finite.
    """
    began = time.time()
    compute = resolve_compute(params.device, "fp32")
    folder = Path("data/runs") / run / str(seed)
    config = read_config(folder)
    network = assemble(config, *read_weights(folder), where=str(folder)).to(compute.device)
    shards = Shards.open()
    taps = embed_rows(
        network,
        shards,
        shards.rows(),
        config,
        params.batch_size,
        compute.device,
        compute.threads,
        f"embed {run} seed {seed}",
    )
    with atomic_directory(out) as target:
        write_embeddings(target / FILE, shards.keys, shards.splits, taps)
    record(f"embed/{run}/{seed}", began, {"images_per_second": round(len(shards) / (time.time() - began), 1)})


def embed_rows(
    network: torch.nn.Module,
    shards: Shards,
    rows: np.ndarray,
    config: dict,
    batch_size: int,
    device: str,
    threads: int,
    label: str,
) -> dict[str, np.ndarray]:
    """Features of some rows of the shards: {tap: (n, d) float32}."""
    size = config["input_size"]
    decoded = open_decoded(shards, rows, config["channels"], None, threads=threads)
    mean = torch.tensor(config["mean"], device=device).view(1, -1, 1, 1)
    std = torch.tensor(config["std"], device=device).view(1, -1, 1, 1)
    found: dict[str, list[np.ndarray]] = {}
    with torch.inference_mode(), Progress(label, len(rows)) as progress:
        for start in range(0, len(rows), batch_size):
            stop = min(start + batch_size, len(rows))
            pixels = np.stack([square(decoded.image(i), size) for i in range(start, stop)])
            x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(255.0)
            x = ((x - mean) / std).contiguous(memory_format=torch.channels_last)
            for name, value in network(x).items():
                found.setdefault(name, []).append(value.float().cpu().numpy())
            progress.advance(stop - start)
    return {name: np.concatenate(parts) for name, parts in found.items()}
