"""Embed every run on the images of one row of `shifts`; a run that was embedded on them before is taken from a store.

A corruption changes the images of the scored split (test, or val where there is no test split) as squares that the
backbone sees. Changed images are made on the way. They are kept in memory for the next run where they fit.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reprise.artifacts import layout
from reprise.artifacts.embeddings import write_embeddings
from reprise.artifacts.manifest import scored_split
from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import open_weights, preparation_of, read_config
from reprise.config.params import parse
from reprise.config.plug_ins.registry import load_class, module_of
from reprise.config.shared_sections import CacheParams
from reprise.config.shift_rows import ShiftedSet, ShiftRow
from reprise.networks.assemble import assemble
from reprise.reading.ahead import ahead
from reprise.reading.entry import in_threads
from reprise.runtime.device import Compute, resolve_compute
from reprise.storage.code.fingerprint import digest_of, fingerprint
from reprise.storage.progress import track
from reprise.storage.provenance import record
from reprise.storage.result_store import ResultStore
from reprise.storage.work_folder import file_digest
from stages.embed.corruption import Corruption, corrupted
from stages.embed.embedding import features, on_host, squares_for
from stages.embed.params import EmbedParams

BACKBONE = "backbone"
STORE = Path(".reprise/shifted")
KEPT = 300  # a run and seed on a row each
Change = Callable[[np.ndarray, str], np.ndarray]  # of one image with its key


@dataclass
class Shown:
    """The images of a row, as they are before any change.

    Args:
        shards: that hold them.
        rows: (n,) rows of the shards.
        cache: bounds of the cache of decoded images.
        threads: images changed at the same time.
        made: changed images by set and form, as far as they fit into `cache.memory_bytes`.
    """

    shards: Shards
    rows: np.ndarray
    cache: CacheParams
    threads: int
    made: dict[str, np.ndarray] = field(default_factory=dict)

    def batches(self, name: str, change: Change | None, config: dict[str, Any], size: int) -> Callable[[int], Any]:
        """Return a function from the position of a batch's first image to its (b, S, S, C) uint8 pixels.

        Args:
            name: of the set.
            change: of each image; None leaves them as they are.
            config: of the backbone that sees them.
            size: images in a batch.
        """
        squares = squares_for(self.shards, config, self.threads, self.cache)
        if change is None:
            return lambda start: np.array(squares[self.rows[start : start + size]])
        form = json.dumps([name, squares.shape[1:], preparation_of(config)], sort_keys=True)
        if form not in self.made and self._fits(squares.shape[1:]):
            self.made[form] = self._changed(squares[self.rows], self.rows, change)
        if form in self.made:
            return lambda start: self.made[form][start : start + size]
        return lambda start: self._changed(
            squares[self.rows[start : start + size]], self.rows[start : start + size], change
        )

    def _fits(self, shape: tuple[int, ...]) -> bool:
        held = sum(pixels.nbytes for pixels in self.made.values())
        return held + len(self.rows) * int(np.prod(shape)) <= self.cache.memory_bytes

    def _changed(self, pixels: np.ndarray, rows: np.ndarray, change: Change) -> np.ndarray:
        found = np.empty_like(pixels)

        def fill(i: int) -> None:
            found[i] = change(pixels[i], str(self.shards.keys[rows[i]]))

        in_threads(fill, len(rows), self.threads, 1)
        return found


def embed_shift(
    shift: ShiftRow, runs: list[tuple[str, int]], params: EmbedParams, out: Path, cache: CacheParams
) -> None:
    """Write `<run>/<seed>/<set>.parquet` for every run and seed and every set of the row.

    Args:
        shift: the row.
        runs: names and seeds.
        params: batch size, device, precision.
        out: folder to fill.
        cache: bounds of the cache of decoded images.

    Raises:
        BackboneError: weights cannot be loaded.
        EmbeddingError: values are not finite, or the corruption returns no image.
    """
    began = time.monotonic()
    compute = resolve_compute(params.device, params.precision)
    shown = images_of(shift, cache, compute.threads)
    store, computed = ResultStore(STORE, KEPT), 0
    for run, seed in track(runs, f"embed on {shift.name}", unit="runs"):
        folder = out / run / str(seed)
        folder.mkdir(parents=True)
        config = read_config(layout.run(run, seed))
        size = params.images_at_a_time(config["input_size"], compute.device)
        key = key_of(shift, layout.run(run, seed), shown.shards, config, compute, size)
        if store.take(key, folder):
            continue
        computed += 1
        embed_run(shift, layout.run(run, seed), config, shown, compute, size, folder)
        store.keep(key, sorted(folder.iterdir()))
    seconds = time.monotonic() - began
    record(f"embed_shift/{shift.name}", began, {"runs": len(runs), "computed": computed, "seconds": round(seconds, 1)})


def images_of(shift: ShiftRow, cache: CacheParams, threads: int) -> Shown:
    """Open the images of a row: those that were taken in for it, or the scored split of the data set."""
    if shift.is_source:
        shards = Shards.open(layout.shift_images(shift.name))
        return Shown(shards, shards.rows(), cache, threads)
    shards = Shards.open()
    return Shown(shards, shards.rows(scored_split(shards.splits)), cache, threads)


def embed_run(
    shift: ShiftRow,
    backbone: Path,
    config: dict[str, Any],
    shown: Shown,
    compute: Compute,
    size: int,
    folder: Path,
) -> None:
    """Write the embeddings of all sets of a row by one backbone into `folder`."""
    network = assemble(config, *open_weights(backbone), where=str(backbone)).to(compute.device)
    keys, splits = shown.shards.keys[shown.rows], shown.shards.splits[shown.rows]
    for one in shift.sets:
        batches = ahead(shown.batches(one.name, change_of(shift, one), config, size), range(0, len(keys), size))
        found = [
            features(network, on_host(pixels, compute.device), config, compute)[BACKBONE].cpu() for pixels in batches
        ]
        write_embeddings(folder / f"{one.name}.parquet", keys, splits, {BACKBONE: torch.cat(found).numpy()})


def change_of(shift: ShiftRow, one: ShiftedSet) -> Change | None:
    """Return the change that makes a set of images; None for images from elsewhere."""
    if shift.is_source or one.severity is None:
        return None
    where, severity = f"shifts: {shift.name}", one.severity
    corruption_class = load_class("shifts", shift.shift, Corruption, where)  # type: ignore[type-abstract]
    corruption = corruption_class(parse(corruption_class.Params, shift.options, f"{where}.options"))
    return lambda pixels, key: corrupted(corruption, shift.shift, severity, pixels, key)


def key_of(shift: ShiftRow, backbone: Path, shards: Shards, config: dict[str, Any], compute: Compute, size: int) -> str:
    """Hash everything on which the embeddings of a row by one backbone depend."""
    modules = [__name__, module_of("backbones", config["architecture"])]
    modules += [] if shift.is_source else [module_of("shifts", shift.shift)]
    inputs = {
        "row": shift.model_dump(mode="json"),
        "run": file_digest(backbone),
        "shards": shards.fingerprint,
        "batch": size,
        "compute": [compute.device, compute.precision, compute.threads],
        "torch": torch.__version__,
        "numpy": np.__version__,
        "code": digest_of(fingerprint(modules)),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
