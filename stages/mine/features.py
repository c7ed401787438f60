"""`python -m stages.mine.features --name NAME --seed N`: training images described once, for any label set.

Features that do not depend on the seed are computed by the first seed and kept in `.reprise/features`, from where the
stages of the other seeds copy them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.artifacts import layout
from reprise.config.params import ImageParams, StrictModel, parse, read_yaml, section
from reprise.config.shared_sections import DEFAULT_CACHE, CacheParams, cache_params
from reprise.config.tables import row, tables
from reprise.runtime.entry import arguments_of, run_stage

if TYPE_CHECKING:
    from reprise.artifacts.shards import Shards
    from stages.mine.extractor import Extractor

STORE, KEPT = Path(".reprise/features"), 4  # features that do not depend on the seed, for the stages of other seeds


def main(argv: list[str]) -> None:
    """Parse, type the parameters, extract."""
    arguments = arguments_of(argv, "stages.mine.features", __doc__, {"name": "features"}, restart=True)
    raw = read_yaml()
    chosen = row(tables(raw).features, arguments.name, "features")
    image = section(raw, "image", ImageParams)

    from reprise.config.plug_ins.registry import load_class
    from stages.mine.extractor import Extractor

    extractor_class = load_class("extractors", chosen.extractor, Extractor, f"features.{chosen.name}.extractor")
    params = parse(
        extractor_class.Params, (raw.get("extractors") or {}).get(chosen.name, {}), f"extractors.{chosen.name}"
    )
    out = layout.features(chosen.name, arguments.seed)
    cache = cache_params(raw)
    trained = layout.model_of_features(chosen.name, arguments.seed) if extractor_class.model_of(params) else None
    extract(extractor_class, params, chosen.extractor, arguments.seed, image, out, arguments.restart, cache, trained)


def extract(
    extractor_class: type[Extractor],
    params: StrictModel,
    extractor: str,
    seed: int,
    image: ImageParams,
    out: Path,
    restart: bool,
    cache: CacheParams = DEFAULT_CACHE,
    trained: Path | None = None,
) -> None:
    """Describe the training images and write `embeddings.parquet` with the tap `features`.

    Args:
        extractor_class, params, extractor: the extractor, its parameters and its name.
        seed: of the extractor.
        image: the images as networks see them.
        out: the folder to write.
        restart: discard what an interrupted process left.
        cache: bounds of the cache of decoded images.
        trained: the folder of the trained model that the extractor names; None where it names none.
    """
    from reprise.artifacts.embeddings import FILE
    from reprise.artifacts.shards import Shards
    from reprise.artifacts.weights.models import read_model
    from reprise.config.plug_ins.registry import module_of
    from reprise.runtime.device import resolve_compute
    from reprise.storage.atomic import atomic_directory, write_json
    from reprise.storage.provenance import record
    from reprise.storage.result_store import ResultStore
    from reprise.storage.work_folder import inputs_key, keyed_by_code, work_folder

    began, name = time.monotonic(), f"features/{out.parent.name}/{seed}"
    compute = resolve_compute("auto", "auto")
    shards, chosen = Shards.open(), extractor_class(params, seed, compute)
    chosen.trained = trained
    inputs = _inputs(chosen, extractor, image, shards)
    code = ["stages.mine.features", extractor_class.__module__, *extractor_class.modules(params)]
    if trained is not None:
        code.append(module_of("models", read_model(trained)[0].model))
    key = inputs_key(keyed_by_code({k: v for k, v in inputs.items() if k != "seed"}, code))
    store, facts = ResultStore(STORE, KEPT), {}
    with work_folder(name, inputs, code, restart) as work:
        with atomic_directory(out) as folder:
            if chosen.seeded or restart or not store.take(key, folder):
                count = _write_features(chosen, image, shards, folder / FILE, work, cache)
                facts["images_per_second"] = round(count / (time.monotonic() - began), 1)
            config = {
                "extractor": extractor,
                "parameters": params.model_dump(),
                "seed": seed,
                "precision": compute.precision,
                "device": compute.device,
            }
            write_json(folder / "config.json", config)
        if facts and not chosen.seeded:
            store.keep(key, [out / FILE])
    record(name, began, facts)


def _inputs(chosen: Extractor, extractor: str, image: ImageParams, shards: Shards) -> dict[str, Any]:
    """List the inputs of the features: the key of unfinished work and, without the seed, of features of all seeds."""
    import torch

    from reprise.storage.work_folder import file_digest

    return {
        "extractor": extractor,
        "params": chosen.params.model_dump(),
        "seed": chosen.seed,
        "image": image.model_dump(),
        "shards": shards.fingerprint,
        "files": file_digest(*(path for path in chosen.files() if path.exists())),  # `features` names what is missing
        "device": chosen.compute.device,
        "precision": chosen.compute.precision,
        "threads": chosen.compute.threads,
        "torch": torch.__version__,
    }


def _write_features(
    chosen: Extractor, image: ImageParams, shards: Shards, path: Path, work: Path, cache: CacheParams
) -> int:
    """Describe the training images and write them to `path`; return how many there are."""
    import numpy as np

    from reprise.artifacts.embeddings import write_embeddings
    from reprise.reading.by_path import SquaresByPath
    from reprise.reading.decoded import open_decoded
    from reprise.runtime.blocks.use import asked

    rows = shards.rows("train")
    bounds, threads = cache.bounds, chosen.compute.threads
    decoded = open_decoded(shards, rows, image.channels, threads=threads, at_once=False, **bounds)
    chosen.by_path = SquaresByPath("train", image.channels, image.size, shards.fingerprint, threads)
    once = chosen.reads_once and asked() is not None
    values = chosen.features(chosen.by_path.open() if once else decoded.squares(image.size), work)
    write_embeddings(path, shards.keys[rows], np.full(len(rows), "train", dtype=object), {"features": values})
    return len(rows)


if __name__ == "__main__":
    run_stage(main)
