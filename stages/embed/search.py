"""`python -m stages.embed.search --run NAME --seed N ...`: which images of the data set lie nearest to another one.

The image comes as a shard of its own (stages/ingest/single.py) and is embedded exactly as the stage embeds the others.
Nearest means the highest cosine similarity of the backbone's features; ties go to the lower key.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reprise.artifacts import layout
from reprise.artifacts.embeddings import FILE, read_embeddings
from reprise.artifacts.facts.names import read_names
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.shards import Shards
from reprise.config.errors import EmbeddingError
from reprise.config.params import read_yaml, section
from reprise.config.shared_sections import CacheParams
from reprise.config.tables import row, tables
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import atomic_file, write_json
from stages.embed.params import EmbedParams

NO_CACHE = CacheParams(max_bytes=0)  # one image is not worth an entry
TAP = "backbone"


def main(argv: list[str]) -> None:
    """Parse the command line, search, and write a table as JSON and, where it is asked for, a page."""
    parser = argparse.ArgumentParser(prog="python -m stages.embed.search", description=__doc__)
    parser.add_argument("--run", required=True, help="a row of `runs` or `adapt`")
    parser.add_argument("--seed", required=True, type=int, help="one of `seeds`")
    parser.add_argument("--image", required=True, type=Path, help="folder with the shard of the image")
    parser.add_argument("--name", required=True, help="name of the image, for the page")
    parser.add_argument("--top", required=True, type=int, help="number of images to find")
    parser.add_argument("--out", required=True, type=Path, help="JSON file to write")
    parser.add_argument("--page", type=Path, help="HTML page to write")
    options = parser.parse_args(argv)
    raw = read_yaml()
    name = row(tables(raw).trained, options.run, "--run").name
    params = section(raw, "embed", EmbedParams)
    query = Shards.open(options.image)
    found = nearest_images(query, name, options.seed, params, options.top)
    write_json(options.out, found)
    if options.page:
        from stages.embed.search_page import page

        with atomic_file(options.page, "w") as file:
            file.write(page(options.name, query, Shards.open(), found, f"{name}, seed {options.seed}"))


def nearest_images(query: Shards, run: str, seed: int, params: EmbedParams, top: int) -> list[dict[str, Any]]:
    """Find the images whose features are most like those of one.

    Args:
        query: shards with this image alone.
        run: name of the run.
        seed: that it was trained with.
        params: with which the stage embedded the others.
        top: number of images.

    Returns:
        For each image, nearest first: `rank` from 1, `path`, `similarity`, `key`, `split`, `label` or None, and
        whether it `is_the_image` itself.

    Raises:
        EmbeddingError: the run was not embedded, or with another backbone.
    """
    from reprise.measures.nearest.neighbours import top_k

    features = embed_one(query, run, seed, params)
    keys, _, bank = read_embeddings(layout.embedding(run, seed) / FILE, TAP)
    if bank.shape[1] != features.shape[1]:
        raise EmbeddingError(
            "the embeddings are of another backbone than the run's",
            where=layout.embedding(run, seed) / FILE,
            found=f"{bank.shape[1]} features, and {features.shape[1]} of the backbone",
            fix="Run `reprise repro`, which embeds the images again.",
        )
    similarity, rows = top_k(features, bank, top)
    columns = ["key", "path", "split", "label"]
    table, wanted = read_manifest(columns=columns), pa.array(keys[rows[0]].tolist(), pa.string())
    facts = {image["key"]: image for image in table.filter(pc.is_in(table["key"], wanted)).to_pylist()}
    found, names = [], read_names()
    for rank, (index, value) in enumerate(zip(rows[0].tolist(), similarity[0].tolist(), strict=True), 1):
        key = str(keys[index])
        if key not in facts:
            raise EmbeddingError(
                "the embeddings are of other images than the manifest",
                where=layout.embedding(run, seed) / FILE,
                found=f"no image {key} in the manifest",
                fix="Run `reprise repro`, which embeds the images again.",
            )
        same = key == str(query.keys[0])
        named = facts[key] | {"path": names.get(key, facts[key]["path"])}
        found.append({"rank": rank, "similarity": round(value, 6), "is_the_image": same, **named})
    return found


def embed_one(query: Shards, run: str, seed: int, params: EmbedParams) -> Any:
    """Compute the features of the only image of some shards: (1, d) float32.

    Raises:
        BackboneError: the run has no backbone, or it cannot be loaded.
    """
    from reprise.artifacts.weights.backbones import read_config
    from reprise.runtime.device import resolve_compute
    from reprise.storage.progress import Progress
    from stages.embed.embedding import embed_rows, frozen_network, squares_for

    compute = resolve_compute(params.device, params.precision)
    folder = layout.run(run, seed)
    config = read_config(folder)
    network = frozen_network(folder, config, params, compute)
    squares = squares_for(query, config, compute.threads, NO_CACHE)
    with Progress(f"embed an image by {run}", 1) as progress:
        return embed_rows(network, squares, range(1), config, 1, compute, progress)[TAP]


if __name__ == "__main__":
    run_stage(main)
