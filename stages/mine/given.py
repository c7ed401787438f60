"""`python -m stages.mine.given`: the two label sets that need no mining, `none` and `truth`, for every seed.

They exist for every data set, so no row of `mines` may have their names. `none` has no labels. `truth` has the
manifest's labels, for supervised references and for the ceiling of guided methods; images without a label get none.

`truth` and the miner `semi_supervised_mixture` are the only ways by which labels reach pretraining. A run depends on
the folder of its own label set only, and `none` holds nothing but keys: a corrected label changes no byte of it, so DVC
reruns no unsupervised run.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reprise.artifacts.layout import LABEL_SETS
from reprise.config.params import read_yaml
from reprise.config.tables import NONE, TRUTH, tables
from reprise.runtime.entry import run_stage

if TYPE_CHECKING:
    import numpy as np


def main(argv: list[str]) -> None:
    """Parse, write both label sets."""
    argparse.ArgumentParser(prog="python -m stages.mine.given", description=__doc__).parse_args(argv)
    seeds = tables(read_yaml()).seeds

    from reprise.storage.provenance import record

    began = time.monotonic()
    write_given(seeds)
    record("given_labels", began)


def write_given(seeds: Sequence[int]) -> None:
    """Write data/mine/none/<seed> and data/mine/truth/<seed>, which are the same for every seed.

    Raises:
        ManifestError: the manifest is missing or damaged.
    """
    import numpy as np
    import pyarrow.compute as pc

    from reprise.artifacts.manifest import read_manifest
    from reprise.storage.atomic import atomic_directory

    manifest = read_manifest(columns=["key", "split", "label"])
    train = manifest.filter(pc.equal(manifest["split"], "train")).sort_by("key")
    keys = np.array(train["key"].to_pylist(), dtype=object)
    for name, clusters in (
        (NONE, np.full(len(keys), -1, dtype=np.int64)),
        (TRUTH, classes_of(train["label"].to_pylist())),
    ):
        with atomic_directory(LABEL_SETS / name) as folder:
            first, *others = (folder / str(seed) for seed in seeds)
            write_label_set(first, name, keys, clusters)
            for other in others:
                shutil.copytree(first, other)


def classes_of(labels: Sequence[str | None]) -> np.ndarray:
    """Number the classes in alphabetical order: (n,) int64, -1 for an image without a label."""
    import numpy as np

    number = {name: i for i, name in enumerate(sorted({label for label in labels if label is not None}))}
    return np.array([-1 if label is None else number[label] for label in labels], dtype=np.int64)


def write_label_set(folder: Path, name: str, keys: np.ndarray, clusters: np.ndarray) -> None:
    """Write pseudo_labels.parquet, the part of quality.json that applies, and a montage where there are clusters.

    Args:
        name: `none` or `truth`.
        keys: (n,) of the training images.
        clusters: (n,) int64 from 0, -1 for no label.
    """
    import numpy as np
    import pyarrow as pa

    from reprise.artifacts.labels.label_sets import FILE, SCHEMA, write_pseudo_labels
    from reprise.artifacts.layout import MANIFEST
    from reprise.artifacts.shards import Shards
    from reprise.storage.atomic import write_json
    from stages.mine.label_sets.montage import write_montage
    from stages.mine.miner import Mined

    labelled = clusters >= 0
    unknown = pa.nulls(len(keys), pa.float32())  # there are no centres, so no distance and no confidence
    columns = {
        "key": pa.array(keys, pa.string()),
        "cluster": pa.array(clusters.astype(np.int32), mask=~labelled),
        "distance": unknown,
        "confidence": unknown,
        "round": pa.array(np.zeros(len(keys), dtype=np.int32)),
    }
    write_pseudo_labels(folder / FILE, pa.table(columns, SCHEMA))
    figures = {
        "miner": name,
        "on": MANIFEST.as_posix(),
        "uses_truth": name == TRUTH,
        "images": len(keys),
        "labelled": int(labelled.sum()),
        "clusters": len(np.unique(clusters[labelled])),
    }
    write_json(folder / "quality.json", figures)
    if labelled.any():
        write_montage(folder / "montage.png", Shards.open(), keys, Mined(clusters))


if __name__ == "__main__":
    run_stage(main)
