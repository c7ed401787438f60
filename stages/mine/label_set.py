"""A label set from features: mined, graded, pictured, written."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.contracts.atomic import atomic_directory, write_json
from stages.contracts.embeddings import FILE as EMBEDDINGS
from stages.contracts.embeddings import read_embeddings
from stages.contracts.manifest import MANIFEST, read_manifest
from stages.contracts.params import MineRow, StrictModel
from stages.contracts.provenance import record
from stages.contracts.pseudo_labels import FILE, write_pseudo_labels
from stages.contracts.shards import Shards
from stages.contracts.work_folder import file_digest, work_folder
from stages.measures.clustering import agreement, silhouette, sizes_summary
from stages.mine.miner import Mined, Miner
from stages.mine.montage import write_montage
from stages.runtime.entry import threads

SILHOUETTE_SAMPLE = 2000
DIGITS = 6  # of the figures: below that, thread counts may show


def mine(row: MineRow, kind: type[Miner], params: StrictModel, seed: int, out: Path, restart: bool = False) -> None:
    """Write pseudo_labels.parquet, quality.json and montage.png for one row of `mines` and one seed.

    Raises:
        MiningError, EmbeddingError, ManifestError: the inputs do not allow it.
    """
    began, here = time.monotonic(), Path(__file__).parent
    source = Path("data") / row.on / str(seed) / EMBEDDINGS
    keys, _, features = read_embeddings(source, split="train")
    manifest = read_manifest(columns=["key", "label"])
    label_of = dict(zip(manifest["key"].to_pylist(), manifest["label"].to_pylist(), strict=True))
    truth = [label_of.get(k) for k in keys]
    inputs = {
        "mine": row.model_dump(),
        "params": params.model_dump(),
        "seed": seed,
        "features": file_digest(source),
        "truth": file_digest(MANIFEST) if kind.uses_truth else None,
        "code": file_digest(here / "miners" / f"{row.miner}.py", here / "miner.py", Path(__file__)),
        "threads": threads(),
    }
    with work_folder(f"mine/{row.name}/{seed}", inputs, restart) as work:
        mined = kind(params, seed).mine(features, truth if kind.uses_truth else None, work)
        with atomic_directory(out) as folder:
            write_pseudo_labels(folder / FILE, as_table(keys, mined))
            write_json(folder / "quality.json", quality(row, kind, features, mined, truth, seed))
            if (mined.clusters >= 0).any():
                write_montage(folder / "montage.png", Shards.open(), keys, mined)
    record(f"mine/{row.name}/{seed}", began)


def as_table(keys: np.ndarray, mined: Mined, round_number: int = 0) -> pa.Table:
    """The label set as the contract wants it; -1 becomes null."""
    none = mined.clusters < 0
    empty = np.zeros(len(keys), dtype=np.float32)

    def column(values: np.ndarray | None) -> pa.Array:
        return pa.array(
            empty if values is None else values,
            pa.float32(),
            mask=none if values is not None else np.ones(len(keys), dtype=bool),
        )

    return pa.table(
        {
            "key": pa.array(keys, pa.string()),
            "cluster": pa.array(np.where(none, 0, mined.clusters).astype(np.int32), mask=none),
            "distance": column(mined.distance),
            "confidence": column(mined.confidence),
            "round": pa.array(np.full(len(keys), round_number, dtype=np.int32)),
        }
    )


def quality(
    row: MineRow, kind: type[Miner], features: np.ndarray, mined: Mined, truth: list[str | None], seed: int
) -> dict[str, Any]:
    """Figures of a label set; those that compare with true labels are for the report and reach no method."""
    labelled = mined.clusters >= 0
    figures: dict[str, Any] = dict.fromkeys(
        ("size_min", "size_median", "size_max", "entropy", "silhouette", "nmi", "ari", "accuracy", "purity")
    )
    if labelled.any():
        figures |= sizes_summary(mined.clusters[labelled])
        if not kind.uses_truth and len(np.unique(mined.clusters[labelled])) > 1:
            figures["silhouette"] = silhouette(features[labelled], mined.clusters[labelled], SILHOUETTE_SAMPLE, seed)
        known = labelled & np.array([label is not None for label in truth])
        if known.any():
            names = sorted({label for label in truth if label is not None})
            number = {name: i for i, name in enumerate(names)}
            classes = np.array(
                [number[label] for label, use in zip(truth, known, strict=True) if use and label is not None]
            )
            figures |= agreement(mined.clusters[known], classes)
    return {
        "miner": row.miner,
        "on": row.on,
        "uses_truth": kind.uses_truth,
        "images": len(features),
        "labelled": int(labelled.sum()),
        "clusters": len(np.unique(mined.clusters[labelled])),
        **{k: round(v, DIGITS) if isinstance(v, float) else v for k, v in figures.items()},
    }
