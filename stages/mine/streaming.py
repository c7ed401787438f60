"""Features that need not fit into memory: they are copied block by block from Parquet into a plain file, then mapped.

Legend: n images, d dimensions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reprise.artifacts.embeddings import taps_in
from reprise.config.errors import EmbeddingError
from reprise.storage.atomic import atomic_file

ROWS = 16_384  # read together
MAPPED = "features.f32"


def stream_features(source: Path, split: str, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read keys and the preferred tap of one split without holding the features in memory.

    Args:
        source: a file of embeddings.
        split: train, val or test.
        work: a folder for the plain copy; one that is there already is used.

    Returns:
        keys (n,) object strings, features (n, d) float32, memory-mapped and read-only.

    Raises:
        EmbeddingError: missing, damaged, or no row of that split.
    """
    tap = taps_in(source)[0]
    file = pq.ParquetFile(source, pre_buffer=False)  # with it the whole file would be held
    width = file.schema_arrow.field(tap).type.list_size
    keys: list[str] = []
    place = work / MAPPED
    there = place.exists()
    with atomic_file(work / f"{MAPPED}.new") as target:
        for batch in file.iter_batches(ROWS, columns=["key", "split", tap]):
            chosen = batch.filter(pc.equal(batch["split"], split))
            keys += chosen["key"].to_pylist()
            if not there:
                target.write(np.ascontiguousarray(chosen[tap].flatten().to_numpy(zero_copy_only=False)).tobytes())
    if there:
        (work / f"{MAPPED}.new").unlink()
    else:
        (work / f"{MAPPED}.new").rename(place)
    if not keys:
        raise EmbeddingError(
            f"no row belongs to split '{split}'", where=source, found="none", fix="Check the splits of the manifest."
        )
    return np.asarray(keys, dtype=object), np.memmap(place, dtype=np.float32, mode="r", shape=(len(keys), width))
