"""A label set from features: mined, graded, pictured, written."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reprise.artifacts.embeddings import FILE as EMBEDDINGS
from reprise.artifacts.embeddings import read_embeddings
from reprise.artifacts.label_sets import FILE, write_pseudo_labels
from reprise.artifacts.manifest import MANIFEST, read_manifest
from reprise.artifacts.pairs import FILE as PAIRS
from reprise.artifacts.pairs import write_pairs
from reprise.artifacts.shards import Shards
from reprise.clustering.centres import renumbered
from reprise.config.params import MineRow, StrictModel
from reprise.measures.cluster_quality import accuracy_by_class, agreement, silhouette, sizes_summary
from reprise.runtime.entry import threads
from reprise.storage.atomic import atomic_directory, write_json
from reprise.storage.provenance import record
from reprise.storage.work_folder import file_digest, work_folder
from stages.mine.miner import ClusterParams, Images, Mined, Miner, Pairs
from stages.mine.montage import write_montage
from stages.mine.resampling import resampled
from stages.mine.rounds import churn
from stages.mine.streaming import stream_features

SILHOUETTE_SAMPLE = 2000
DIGITS = 6  # of the figures: below that, thread counts may show


def mine(
    row: MineRow,
    kind: type[Miner],
    params: StrictModel,
    seed: int,
    out: Path,
    restart: bool = False,
    number: int = 0,
    before: str | None = None,
) -> None:
    """Write pseudo_labels.parquet, quality.json, pictures and, from a miner of pairs, pairs.parquet.

    Args:
        row: of `mines`. number: of the round. before: the label set of the round before, to compare with.

    Raises:
        MiningError, EmbeddingError, ManifestError: the inputs do not allow it.
    """
    began = time.monotonic()
    source = Path("data") / row.on / str(seed) / EMBEDDINGS
    earlier = Path("data/mine") / (before or "") / str(seed) / FILE
    inputs = {
        "mine": row.model_dump(),
        "params": params.model_dump(),
        "seed": seed,
        "features": file_digest(source) if source.exists() else None,
        "manifest": file_digest(MANIFEST) if MANIFEST.exists() else None,
        "round": [number, file_digest(earlier) if before and earlier.exists() else None],
        "threads": threads(),
        "numpy": np.__version__,
        "torch": version("torch"),
    }
    with work_folder(f"mine/{row.name}/{seed}", inputs, [__name__, kind.__module__], restart) as work:
        if kind.streams:
            keys, features = stream_features(source, "train", work)
        else:
            keys, _, features = read_embeddings(source, split="train")
        truth, images = about(keys)
        miner = kind(params, seed, images)
        given = shown = None  # which labels the miner gets; what it sees of them
        if kind.uses_truth:
            given = miner.given(keys, truth)
            shown = only(truth, given)
        mined = miner.mine(features, shown, work)
        known, stability = mined.clusters >= 0, None
        if isinstance(params, ClusterParams):
            if params.resamples and (mined.clusters >= 0).any():

                def again(rows: np.ndarray, other: int, place: Path) -> np.ndarray:
                    labels = [shown[row] for row in rows] if shown is not None else None
                    return kind(params, other).mine(np.ascontiguousarray(features[rows]), labels, place).clusters

                agreed, stability = resampled(mined.clusters, params.resamples, seed, work, again)
                mined = replace(mined, confidence=agreed)
            mined = only_sure(mined, params.min_confidence)
        figures = quality(row, kind, features, mined, truth, given, seed) | {
            "stability": None if stability is None else round(stability, DIGITS),
            "churn": None,
        }
        if before is not None and (change := churn(before, seed, keys, mined.clusters)) is not None:
            figures["churn"] = {k: round(v, DIGITS) if isinstance(v, float) else v for k, v in change.items()}
        with atomic_directory(out) as folder:
            write_pseudo_labels(folder / FILE, as_table(keys, mined, number, known))
            if mined.pairs is not None:
                write_pairs(folder / PAIRS, pairs_table(keys, mined.pairs))
            write_json(folder / "quality.json", figures)
            if (mined.clusters >= 0).any():
                write_montage(folder / "montage.png", Shards.open(), keys, mined)
                if mined.confidence is not None:
                    write_montage(folder / "least_certain.png", Shards.open(), keys, mined, least_certain=True)
    record(f"mine/{row.name}/{seed}", began)


def about(keys: np.ndarray) -> tuple[list[str | None], Images]:
    """True labels, which only grade what is found, and what miners may know, of these images."""
    manifest = read_manifest(columns=["key", "label", "path", "group"])
    position = {key: row for row, key in enumerate(manifest["key"].to_pylist())}
    rows = [position.get(key) for key in keys]
    label, path, group = (
        [None if row is None else column[row] for row in rows]
        for column in (manifest[name].to_pylist() for name in ("label", "path", "group"))
    )
    return label, Images([value or "" for value in path], group)


def only(truth: list[str | None], given: np.ndarray) -> list[str | None]:
    """The labels where `given` (n,) is true, None elsewhere."""
    return [label if shown else None for label, shown in zip(truth, given.tolist(), strict=True)]


def only_sure(mined: Mined, least: float) -> Mined:
    """Images below `least` get no label; their confidence stays, so that the file shows why."""
    if not least or mined.confidence is None:
        return mined
    kept = np.where(mined.confidence >= least, mined.clusters, -1)
    return replace(mined, clusters=renumbered(kept))


def pairs_table(keys: np.ndarray, pairs: Pairs) -> pa.Table:
    """Pairs as the contract wants them."""
    return pa.table(
        {
            "first": pa.array(keys[pairs.rows[:, 0]], pa.string()),
            "second": pa.array(keys[pairs.rows[:, 1]], pa.string()),
            "weight": pa.array(pairs.weight, pa.float32()),
            "kind": pa.array(pairs.kind, pa.string()),
            "hops": pa.array(pairs.hops.astype(np.int32)),
        }
    )


def as_table(keys: np.ndarray, mined: Mined, round_number: int = 0, known: np.ndarray | None = None) -> pa.Table:
    """The label set as the contract wants it; -1 becomes null.

    Args:
        known: images that have a distance and a confidence; None: those with a label.
    """
    none = mined.clusters < 0
    unknown = none if known is None else ~known
    empty = np.zeros(len(keys), dtype=np.float32)

    def column(values: np.ndarray | None) -> pa.Array:
        return pa.array(
            empty if values is None else values,
            pa.float32(),
            mask=unknown if values is not None else np.ones(len(keys), dtype=bool),
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
    row: MineRow,
    kind: type[Miner],
    features: np.ndarray,
    mined: Mined,
    truth: list[str | None],
    given: np.ndarray | None,
    seed: int,
) -> dict[str, Any]:
    """Figures of a label set; those that compare with true labels are for the report and reach no method.

    Args:
        given: (n,) bool, images whose label the miner got: the others are compared. None: all are.
    """
    labelled = mined.clusters >= 0
    figures: dict[str, Any] = dict.fromkeys(
        ("size_min", "size_median", "size_max", "entropy", "silhouette", "nmi", "ari", "accuracy", "purity")
    )
    if given is not None:
        figures |= {"given": int(given.sum()), "accuracy_old": None, "accuracy_new": None}
    if labelled.any():
        figures |= sizes_summary(mined.clusters[labelled])
        if len(np.unique(mined.clusters[labelled])) > 1:
            figures["silhouette"] = silhouette(features, mined.clusters, SILHOUETTE_SAMPLE, seed)
        number = {name: i for i, name in enumerate(sorted({label for label in truth if label is not None}))}
        classes = np.array([-1 if label is None else number[label] for label in truth], dtype=np.int64)
        if given is None:
            figures |= agreement(mined.clusters, classes)
        else:
            old = np.unique(classes[given])
            hidden = np.where(given, -1, classes)
            figures |= agreement(mined.clusters, hidden) | accuracy_by_class(mined.clusters, hidden, old)
    sure = mined.confidence[labelled] if mined.confidence is not None and labelled.any() else None
    figures["confidence_mean"] = None if sure is None else float(sure.mean(dtype=np.float64))
    return {
        "miner": row.miner,
        "on": row.on,
        "uses_truth": kind.uses_truth,
        "images": len(features),
        "labelled": int(labelled.sum()),
        "pairs": None if mined.pairs is None else len(mined.pairs.rows),
        "clusters": len(np.unique(mined.clusters[labelled])),
        **{k: round(v, DIGITS) if isinstance(v, float) else v for k, v in figures.items()},
    }
