"""Pack images from elsewhere into one shard, in the form of the shards of the data set."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from reprise.artifacts.shards import INDEX, index_schema, write_index
from reprise.media.lookup import IMAGE, modality
from reprise.storage import ustar
from reprise.storage.atomic import atomic_file
from reprise.storage.progress import track
from stages.ingest.candidates.again import bytes_of
from stages.ingest.candidates.select import Image

SHARD = "test-000000.tar"


@dataclass(frozen=True)
class Packed:
    """Where an image lies: the name of the shard, the offset of its first byte, and its length."""

    shard: str
    offset: int
    bytes: int


def pack(rows: list[Image], output: Path, max_side: int, kind: str = IMAGE) -> dict[str, Packed]:
    """Write the shard and its index.

    Args:
        rows: the images.
        output: folder to fill.
        max_side: longest side in pixels; larger images are scaled down and stored without loss.
        kind: the modality of the data set.

    Returns:
        The place of each image by its key.

    Raises:
        InputsChanged: a file is no longer what was examined.
    """
    places: dict[str, Packed] = {}
    index = []
    media, offset = modality(kind), 0
    with atomic_file(output / SHARD) as file:
        for row in track(sorted(rows, key=lambda row: row.key), "pack"):
            facts = {**row.facts, "bytes": row.bytes}
            stored = media.stored_form(bytes_of(row), row.candidate.name, facts, max_side)
            entry = {
                "channels": row.facts["channels"],
                "group": row.candidate.group,
                "height": stored.height,
                "key": row.key,
                "split": row.candidate.split,
                "width": stored.width,
            }
            places[row.key] = Packed(SHARD, offset + ustar.BLOCK, len(stored.data))
            image = ustar.member(f"{row.key}.{stored.extension}", stored.data)
            card = ustar.member(f"{row.key}.json", json.dumps(entry, sort_keys=True).encode("ascii"))
            file.write(image + card)
            index.append(
                {
                    **entry,
                    "shard": SHARD,
                    "offset": offset + ustar.BLOCK,
                    "bytes": len(stored.data),
                    "ext": stored.extension,
                    "sha256": hashlib.sha256(stored.data).hexdigest(),
                    **({} if stored.depth is None else {"modality": kind, "depth": stored.depth}),
                }
            )
            offset += len(image) + len(card)
        file.write(ustar.END)
    write_index(output / INDEX, pa.Table.from_pylist(index, schema=index_schema(index[0] if index else ())))
    return places
