"""A picture of a label set: one row for each cluster, the images nearest to its centre first."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from reprise.artifacts.shards import Shards
from reprise.media.image.thumbnail import contact_sheet
from reprise.media.lookup import modality
from reprise.storage.atomic import atomic_file
from stages.mine.miner import Mined

ROWS, COLUMNS, SIDE, GAP = 16, 16, 40, 2  # clusters, images each, pixels, pixels
WHOLE = 1 << 20  # pixels: no picture is longer, so none is scaled down before it becomes a square


def write_montage(path: Path, shards: Shards, keys: np.ndarray, mined: Mined, *, least_certain: bool = False) -> None:
    """Draw the clusters from the largest on, evenly thinned to ROWS, each with its COLUMNS nearest images.

    Args:
        path: a PNG file.
        shards: hold the images.
        keys: (n,) of the mined images; all must be in the shards.
        mined: the label set.
        least_certain: draw the images of lowest confidence instead of the nearest.
    """
    position = shards.rows_of(keys)
    clusters, sizes = np.unique(mined.clusters[mined.clusters >= 0], return_counts=True)
    by_size = clusters[np.lexsort((clusters, -sizes))]
    shown = by_size[np.unique(np.linspace(0, len(by_size) - 1, min(ROWS, len(by_size))).astype(int))]
    rows = []
    for cluster in shown:
        members = np.flatnonzero(mined.clusters == cluster)
        if least_certain and mined.confidence is not None:
            members = members[np.argsort(mined.confidence[members], kind="stable")]
        elif mined.distance is not None:
            members = members[np.argsort(mined.distance[members], kind="stable")]
        rows.append([(shards.read(position[member]), str(keys[member])) for member in members[:COLUMNS]])
    media = modality(shards.modality)
    with atomic_file(path) as file:
        file.write(contact_sheet(rows, COLUMNS, SIDE, GAP, partial(media.thumbnail, side=WHOLE)))
