"""`python -m stages.shard`: manifest -> data/shards (WebDataset tars and an index of byte offsets)."""

from __future__ import annotations

import argparse
import shutil
import time

from reprise.config.params import read_yaml, section
from reprise.config.shared_sections import cache_params
from reprise.runtime.entry import run_stage, workers
from stages.shard.params import SECTION, ShardParams


def main(argv: list[str]) -> None:
    """Pack the images of the manifest; the command has no arguments."""
    argparse.ArgumentParser(
        prog="python -m stages.shard", description="Pack the images of the manifest into tars."
    ).parse_args(argv)
    raw = read_yaml()
    params = section(raw, SECTION, ShardParams)

    from reprise.artifacts.facts.names import FILE as NAMES
    from reprise.artifacts.facts.sides import FILE, read_sides
    from reprise.artifacts.layout import INGEST, MANIFEST, SHARDS
    from reprise.artifacts.manifest import read_manifest
    from reprise.storage.atomic import atomic_directory
    from reprise.storage.provenance import record
    from reprise.storage.work_folder import file_digest, work_folder
    from stages.shard.send import sending
    from stages.shard.write import scaled_down, write_shards

    began = time.monotonic()
    manifest = read_manifest()
    inputs = {"manifest": file_digest(MANIFEST), "shard": params.model_dump()}
    sides = read_sides(INGEST / FILE) if (INGEST / FILE).exists() else []
    if sides:
        inputs["sides"] = file_digest(INGEST / FILE)
    with work_folder("shard", inputs, ["stages.shard.write"]) as work, atomic_directory(SHARDS) as output:
        with sending(work, params.store, cache_params(raw).far) as sender:
            shards = write_shards(manifest, params, output, workers(), work, sides, sender)
        if (INGEST / NAMES).exists():
            shutil.copyfile(INGEST / NAMES, output / NAMES)
    record(
        "shard",
        began,
        {"images": manifest.num_rows, "images_per_second": round(manifest.num_rows / (time.monotonic() - began), 1)},
    )
    print(f"shard: {manifest.num_rows:,} images in {shards} tars{f' below {params.store}' if params.store else ''}")
    if smaller := scaled_down(manifest, params.max_side):
        print(
            f"  {smaller:,} images are stored scaled down to a longer side of {params.max_side} pixels (shard.max_side)"
        )


if __name__ == "__main__":
    run_stage(main, algebra=False)
