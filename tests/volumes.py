"""A small workspace of drawn volumes: files, manifest and shards in the real formats, made by the real stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reprise.artifacts.layout import MANIFEST, SHARDS
from reprise.artifacts.manifest import read_manifest
from stages.ingest.ingest import ingest
from stages.ingest.load import load_source
from stages.shard.params import ShardParams
from stages.shard.write import write_shards
from studies.volumes import KINDS, draw


def write_volumes(root: Path, count: int = 40, side: int = 8) -> None:
    """Draw volumes into folders of their kinds."""
    rng = np.random.default_rng(0)
    for number in range(count):
        folder = root / KINDS[number % len(KINDS)]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number:03}.npy", draw(folder.name, rng, side))


def take_in(root: Path, modality: str = "volume", **options: Any) -> dict[str, Any]:
    """Run ingest in this process on a folder, and return the data set card."""
    source, params = load_source({"source": {"name": "folder", "root": str(root), "modality": modality, **options}})
    MANIFEST.parent.mkdir(parents=True)
    return ingest(source, params, MANIFEST.parent, workers=0)


def write_shards_of_it(max_side: int = 64) -> None:
    """Shard what was taken in."""
    Path(SHARDS).mkdir(parents=True)
    write_shards(read_manifest(), ShardParams(max_shard_bytes=1 << 20, max_side=max_side), Path(SHARDS), 1)
