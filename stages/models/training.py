"""Train one model of one seed, judge how it restores images, and write its folder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reprise.artifacts.shards import Shards
from reprise.artifacts.tables.columns import Keys
from reprise.artifacts.weights.models import CONFIG, METRICS, PICTURE, WEIGHTS, write_model
from reprise.config.params import ImageParams, StrictModel, parse
from reprise.config.plug_ins.registry import load_class
from reprise.config.shared_sections import CacheParams
from reprise.config.tables import ModelRow
from reprise.media.image.thumbnail import picture_of_arrays
from reprise.networks.state import arrays_of
from reprise.reading.decoded import open_decoded
from reprise.runtime.device import Compute, resolve_compute
from reprise.storage.provenance import record
from reprise.storage.result_store import ResultStore
from reprise.storage.work_folder import inputs_key, keyed_by_code, work_folder
from reprise.training.model import Model, TrainedModel

STORE, KEPT = Path(".reprise/trained"), 32  # trained models: those of several rows and seeds, and of earlier parameters
SCORED = 1024  # images of a split at most, by which the restoring is judged
SHOWN, SIDE = 16, 64  # images in the picture, and their side in pixels at most
DIGITS = 6  # of the figures: below that, the number of threads may show


def typed_params(raw: Mapping[str, Any], row: ModelRow) -> tuple[type[Model], StrictModel]:
    """Return the kind of a row's model, and its typed parameters.

    Raises:
        ParameterError: an unknown kind, or parameters that it does not accept.
    """
    where = f"models: {row.name}: model"
    model_class = load_class("models", str(row.model), Model, where)  # type: ignore[type-abstract]
    block = (raw.get("model_options") or {}).get(row.name, {})
    return model_class, parse(model_class.Params, block, f"model_options.{row.name}")


def train_model(
    row: ModelRow,
    typed: tuple[type[Model], StrictModel],
    seed: int,
    image: ImageParams,
    folder: Path,
    cache: CacheParams,
    restart: bool,
) -> None:
    """Train a model into a new folder, or take it from `.reprise/trained`.

    Args:
        row: of `models`.
        typed: as `typed_params` returns it.
        seed: of the training.
        image: the images as networks see them.
        folder: to make and to write into.
        cache: bounds of the cache of decoded images.
        restart: discard what an interrupted process left, and train anew.
    """
    began, (model_class, params), shards = time.monotonic(), typed, Shards.open()
    compute = resolve_compute("auto", "auto")
    inputs = {
        "model": row.model_dump(include={"name", "model", "on"}),
        "params": params.model_dump(),
        "seed": seed,
        "image": image.model_dump(),
        "shards": shards.fingerprint,
        "device": compute.device,
        "precision": compute.precision,
        "threads": compute.threads,
        "torch": torch.__version__,
    }
    code, name = [__name__, model_class.__module__, *model_class.modules(params)], f"trained/{row.name}/{seed}"
    key, store = inputs_key(keyed_by_code(inputs, code)), ResultStore(STORE, KEPT)
    folder.mkdir()
    with work_folder(name, inputs, code, restart) as work:
        stored = not restart and store.take(key, folder)
        if not stored:
            model = model_class(params, seed, compute)
            _train(model, row, image, shards, folder, cache, work)
            store.keep(key, [folder / file for file in (WEIGHTS, CONFIG, METRICS, PICTURE) if (folder / file).exists()])
    record(name, began, {"origin": "stored" if stored else "computed"})


def _train(
    model: Model, row: ModelRow, image: ImageParams, shards: Shards, folder: Path, cache: CacheParams, work: Path
) -> None:
    """Train on the training images and write the folder; val is only restored, for the figures."""
    compute = model.compute
    images = {split: _images(split, image, shards, compute, cache) for split in ("train", "val")}
    done = model.train(images["train"], work)
    weights = arrays_of(done.network.state_dict())
    config = {
        "name": row.name,
        "model": row.model,
        "on": row.on,
        "parameters": model.params.model_dump(),
        "channels": image.channels,
        "size": image.size,
        "seed": model.seed,
        "images": len(images["train"]),
        "precision": compute.precision,
        "device": compute.device,
        "notes": done.notes,
    }
    figures, picture = _restoring(model, done, images, {s: shards.keys[shards.rows(s)] for s in images})
    write_model(folder, weights, config, {"history": done.history, **figures}, picture)


def _images(split: str, image: ImageParams, shards: Shards, compute: Compute, cache: CacheParams) -> np.ndarray:
    """Return the images of a split as squares: (n, S, S, C) uint8, decoded when they are read."""
    bounds = cache.bounds
    rows, threads = shards.rows(split), compute.threads
    return open_decoded(shards, rows, image.channels, threads=threads, at_once=False, **bounds).squares(image.size)


def _restoring(
    model: Model, done: TrainedModel, images: Mapping[str, np.ndarray], keys: Mapping[str, Keys]
) -> tuple[dict[str, Any], bytes | None]:
    """Judge how images are restored, and draw some of val: the mean squared error of each split, and a picture.

    A split of more than SCORED images is judged by those whose keys have the lowest hashes.
    """
    errors: dict[str, Any] = {}
    picture: bytes | None = None
    for split, pixels in images.items():
        rows = _chosen(keys[split], SCORED)
        if not len(rows):
            errors[split] = None
            continue
        seen = model.seen(np.asarray(pixels[np.sort(rows)]))
        restored = model.restored(done.network, seen)
        if restored is None:
            return {}, None
        difference = restored.astype(np.float64) - seen / 255.0
        errors[split] = round(float(np.mean(difference**2)), DIGITS)
        first = np.argsort(rows, kind="stable").argsort()[:SHOWN]  # the lowest hashes, in their order
        pair = [[array[i] for i in first] for array in (seen, np.rint(restored * 255).clip(0, 255).astype(np.uint8))]
        picture = picture_of_arrays(pair, SIDE)  # of val where there is one: it comes last
    return {"squared_error": errors}, picture


def _chosen(keys: Keys, most: int) -> np.ndarray:
    """Return up to `most` rows by the hash of their keys, the lowest first."""
    order = sorted(
        range(len(keys)), key=lambda i: hashlib.sha256(str(keys[i]).encode("utf-8", "surrogatepass")).digest()
    )
    return np.array(order[:most], np.int64)
