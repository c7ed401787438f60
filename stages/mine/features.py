"""`python -m stages.mine.features --name NAME --seed N`: training images described once, for any label set."""

from __future__ import annotations

import time
from pathlib import Path

from reprise.config.params import ImageParams, StrictModel, parse, read_yaml, row, section, tables
from reprise.runtime.entry import arguments_of, run_stage


def main(argv: list[str]) -> None:
    """Parse, type the parameters, extract."""
    arguments = arguments_of(argv, "stages.mine.features", __doc__, {"name": "features"}, restart=True)
    raw = read_yaml()
    chosen = row(tables(raw).features, arguments.name, "features")
    image = section(raw, "image", ImageParams)

    from reprise.config.registry import load_class
    from stages.mine.extractor import Extractor

    kind = load_class("stages.mine.extractors", chosen.extractor, Extractor, f"features.{chosen.name}.extractor")
    params = parse(kind.Params, (raw.get("extractors") or {}).get(chosen.name, {}), f"extractors.{chosen.name}")
    out = Path("data/features") / chosen.name / str(arguments.seed)
    extract(kind, params, chosen.extractor, arguments.seed, image, out, arguments.restart)


def extract(
    kind: type, params: StrictModel, extractor: str, seed: int, image: ImageParams, out: Path, restart: bool
) -> None:
    """Describe the training images and write `embeddings.parquet` with the tap `features`."""
    import numpy as np
    import torch

    from reprise.artifacts.embeddings import FILE, write_embeddings
    from reprise.artifacts.shards import Shards
    from reprise.reading.decoded import open_decoded
    from reprise.runtime.device import resolve_compute
    from reprise.storage.atomic import atomic_directory, write_json
    from reprise.storage.provenance import record
    from reprise.storage.work_folder import file_digest, work_folder

    began, here = time.monotonic(), Path(__file__).parent
    compute = resolve_compute("auto", "auto")
    shards = Shards.open()
    rows = shards.rows("train")
    images = open_decoded(shards, rows, image.channels, None, threads=compute.threads).resized(image.size)
    inputs = {
        "extractor": extractor,
        "params": params.model_dump(),
        "seed": seed,
        "image": image.model_dump(),
        "shards": shards.fingerprint,
        "code": file_digest(here / "extractors" / f"{extractor}.py", here / "extractor.py", Path(__file__)),
        "precision": compute.precision,
        "threads": compute.threads,
        "torch": torch.__version__,
    }
    with work_folder(f"features/{out.parent.name}/{seed}", inputs, restart) as work:
        values = kind(params, seed, compute).features(images, work)
        with atomic_directory(out) as folder:
            write_embeddings(
                folder / FILE, shards.keys[rows], np.full(len(rows), "train", dtype=object), {"features": values}
            )
            config = {
                "extractor": extractor,
                "parameters": params.model_dump(),
                "seed": seed,
                "precision": compute.precision,
                "device": compute.device,
            }
            write_json(folder / "config.json", config)
    record(
        f"features/{out.parent.name}/{seed}",
        began,
        {"images_per_second": round(len(rows) / (time.monotonic() - began), 1)},
    )


if __name__ == "__main__":
    run_stage(main)
