"""A small workspace of real digits for tests: images, manifest, shards and suggested views, in the real formats."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from reprise.artifacts.layout import MANIFEST, SHARDS
from reprise.artifacts.manifest import KEY_DIGITS, MANIFEST_SCHEMA, read_manifest, write_manifest
from reprise.storage.atomic import write_json
from stages.shard.params import ShardParams
from stages.shard.write import write_shards

VIEWS = {"crop_scale_min": 0.3, "flip": False, "jitter": 0.4, "grey": 0.0, "blur": 0.0, "solarize": 0.0}


def make_shards(count: int = 160, labelled: bool = True) -> None:
    """Write `count` digits (half train, a quarter val, a quarter test) into data/ below the current folder."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder = Path("images")
    folder.mkdir()
    rows = []
    for pixels, label in zip(digits.images[:count], digits.target[:count], strict=True):
        buffer = io.BytesIO()
        Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).save(buffer, "PNG")
        data = buffer.getvalue()
        sha = hashlib.sha256(data).hexdigest()
        path = folder / f"{sha[:KEY_DIGITS]}.png"
        path.write_bytes(data)
        rows.append(
            {
                "key": sha[:KEY_DIGITS],
                "path": str(path),
                "offset": 0,
                "bytes": len(data),
                "split": ("train", "train", "val", "test")[len(rows) % 4],
                "label": str(label) if labelled else None,
                "width": 8,
                "height": 8,
                "channels": 1,
                "format": "PNG",
                "plain": True,
                "pixels": sha,
                "sha256": sha,
                "group": None,
            }
        )
    write_manifest(MANIFEST, pa.Table.from_pylist(rows, MANIFEST_SCHEMA))
    write_json("data/ingest/views.json", VIEWS)
    Path(SHARDS).mkdir(parents=True)
    write_shards(read_manifest(), ShardParams(max_shard_bytes=1 << 20, max_side=64), Path(SHARDS), 1)
