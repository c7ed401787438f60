"""A label set from features: mine, compute its figures, draw its pictures, write it.

True labels reach a miner here only, and only one that declares `uses_truth`; for all others they only grade the result.

Legend: n images, d dimensions.
"""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reprise.artifacts import layout
from reprise.artifacts.embeddings import FILE as EMBEDDINGS
from reprise.artifacts.embeddings import read_embeddings
from reprise.artifacts.facts.names import FILE as NAMES
from reprise.artifacts.facts.names import with_names
from reprise.artifacts.labels.label_sets import FILE, GIVEN, write_pseudo_labels
from reprise.artifacts.labels.pairs import FILE as PAIRS
from reprise.artifacts.labels.pairs import write_pairs
from reprise.artifacts.labels.parts import EDGES, write_parts
from reprise.artifacts.labels.parts import FILE as PARTS
from reprise.artifacts.layout import MANIFEST, SHARDS
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.shards import Shards
from reprise.clustering.centres import renumbered
from reprise.config.params import StrictModel
from reprise.config.tables import MineRow
from reprise.measures.cluster_quality import accuracy_by_class, agreement, silhouette, sizes_summary
from reprise.runtime.entry import threads
from reprise.storage.atomic import atomic_directory, write_json
from reprise.storage.provenance import record
from reprise.storage.work_folder import file_digest, work_folder
from stages.mine.label_sets.confidences import areas, refuse_without_passes, two_views
from stages.mine.label_sets.montage import write_montage
from stages.mine.label_sets.pair_figures import pair_figures
from stages.mine.label_sets.resampling import resampled
from stages.mine.label_sets.rounds import churn
from stages.mine.miner import ClusterParams, Images, LabelParams, Mined, Miner, Pairs, Parts
from stages.mine.streaming import stream_features

SILHOUETTE_SAMPLE = 2000  # images
DIGITS = 6  # of the figures: below that, the number of threads may show


def mine(
    row: MineRow,
    miner_class: type[Miner],
    params: StrictModel,
    seed: int,
    out: Path,
    restart: bool = False,
    round_number: int = 0,
    before: str | None = None,
) -> None:
    """Write pseudo_labels.parquet, quality.json, pictures and, from a miner of pairs, pairs.parquet.

    Args:
        row: of `mines`.
        miner_class: the miner that the row names.
        params: its parameters.
        seed: of the miner.
        out: the folder to write.
        restart: discard what an interrupted process left.
        round_number: pretrainings that the features rest on.
        before: the label set of the round before, to compare with.

    Raises:
        MiningError, EmbeddingError, ManifestError: the inputs do not allow it.
    """
    began = time.monotonic()
    source = layout.mined_from(row.on, seed) / EMBEDDINGS
    earlier = layout.label_set(before or "", seed) / FILE
    inputs = {
        "mine": row.model_dump(),
        "params": params.model_dump(),
        "seed": seed,
        "features": file_digest(source) if source.exists() else None,
        "manifest": file_digest(MANIFEST) if MANIFEST.exists() else None,
        **({"names": file_digest(SHARDS / NAMES)} if (SHARDS / NAMES).exists() else {}),
        "round": [round_number, file_digest(earlier) if before and earlier.exists() else None],
        "threads": threads(),
        "numpy": np.__version__,
        "torch": version("torch"),
    }
    with work_folder(f"mine/{row.name}/{seed}", inputs, [__name__, miner_class.__module__], restart) as work:
        if miner_class.streams:
            keys, features = stream_features(source, "train", work)
        else:
            keys, _, features = read_embeddings(source, miner_class.tap, split="train")
        truth, images = manifest_facts(keys)
        miner = miner_class(params, seed, images)
        visible = miner.visible_labels(keys, truth) if miner_class.uses_truth else None
        labels = None if visible is None else hide_others(truth, visible)
        mined, stability, confidences = mine_images(miner, features, labels, work, source, row.on)
        clusters, known = mined.clusters, mined.clusters >= 0
        if isinstance(params, LabelParams):
            mined = drop_uncertain(mined, params.min_confidence)
        # Memberships lie apart by construction: how compact clusters are is asked of the features that they rest on.
        compared = features if miner_class.tap is None else read_embeddings(source, split="train")[2]
        figures = quality(row, miner_class, compared, mined, truth, visible, seed)
        figures |= rounded(miner.figures(features, mined))
        figures["stability"] = None if stability is None else round(stability, DIGITS)
        if isinstance(params, ClusterParams) and (params.resamples or params.confidence):
            figures["auroc"] = rounded(areas(confidences, clusters, compared_classes(truth, visible)))
        change = None if before is None else churn(before, seed, keys, mined.clusters)
        figures["churn"] = None if change is None else rounded(change)
        with atomic_directory(out) as folder:
            pairs = None
            if mined.pairs is not None:
                write_pairs(folder / PAIRS, pairs_table(keys, mined.pairs))
                pairs = file_digest(folder / PAIRS)
            if mined.parts is not None:
                write_parts(folder / PARTS, parts_table(keys, mined.parts))
            write_pseudo_labels(folder / FILE, as_table(keys, mined, round_number, known, visible), pairs)
            write_json(folder / "quality.json", figures)
            write_pictures(folder, keys, mined)
    record(f"mine/{row.name}/{seed}", began)


def mine_images(
    miner: Miner, features: np.ndarray, labels: list[str | None] | None, work: Path, source: Path, on: str
) -> tuple[Mined, float | None, dict[str, np.ndarray]]:
    """Mine, and find every confidence that the parameters ask for: by mining again, or from two changed copies.

    Args:
        miner: of any class.
        features: (n, d) float32.
        labels: (n,) those that the miner may see, None for a hidden one; None for a miner that sees none.
        work: a folder for checkpoints.
        source: the file of the features.
        on: how the row of `mines` names it.

    Returns:
        The label set with the chosen confidence; the stability, None without resamples; and all confidences by name.

    Raises:
        MiningError: two views are asked for, and the features have none.
    """
    params = miner.params
    if not isinstance(params, ClusterParams):
        return miner.mine(features, labels, work), None, {}
    if params.confidence == "two_views":
        refuse_without_passes(source, on)
    mined, stability = miner.mine(features, labels, work), None
    if not (mined.clusters >= 0).any():
        return mined, None, {}
    found = {} if mined.confidence is None else {"own": mined.confidence}

    def again(rows: np.ndarray, seed: int, place: Path) -> np.ndarray:
        part = None if labels is None else [labels[row] for row in rows]
        return type(miner)(params, seed).mine(np.ascontiguousarray(features[rows]), part, place).clusters

    if params.resamples:
        found["resamples"], stability = resampled(mined.clusters, params.resamples, miner.seed, work, again)
    if params.confidence == "two_views":
        found["two_views"] = two_views(source, mined.clusters)
    return replace(mined, confidence=found.get(params.chosen_confidence)), stability, found


def manifest_facts(keys: np.ndarray) -> tuple[list[str | None], Images]:
    """Look images up in the manifest: their true labels, and what every miner may know of them.

    Args:
        keys: (n,).
    """
    manifest = read_manifest(columns=["key", "label", "path", "group"])
    known = manifest["key"].to_pylist()
    position = {key: row for row, key in enumerate(known)}
    rows = [position.get(key) for key in keys]
    labels, paths, groups = (manifest[name].to_pylist() for name in ("label", "path", "group"))
    label, path, group = (
        [None if row is None else column[row] for row in rows]
        for column in (labels, with_names(known, paths, SHARDS), groups)
    )
    return label, Images([value or "" for value in path], group)


def hide_others(truth: list[str | None], visible: np.ndarray) -> list[str | None]:
    """Keep the labels where `visible` (n,) is true; the others become None."""
    return [label if seen else None for label, seen in zip(truth, visible.tolist(), strict=True)]


def compared_classes(truth: list[str | None], visible: np.ndarray | None) -> np.ndarray:
    """Number the classes with which a label set is compared: (n,) int64, -1 for none and for those the miner saw."""
    number = {name: i for i, name in enumerate(sorted({label for label in truth if label is not None}))}
    classes = np.array([-1 if label is None else number[label] for label in truth], dtype=np.int64)
    return classes if visible is None else np.where(visible, -1, classes)


def drop_uncertain(mined: Mined, least: float) -> Mined:
    """Take the label from images whose confidence is below `least`; the confidence stays, so the file shows why."""
    if not least or mined.confidence is None:
        return mined
    kept = np.where(mined.confidence >= least, mined.clusters, -1)
    return replace(mined, clusters=renumbered(kept))


def rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Round what is not a whole number to `DIGITS` digits."""
    return {name: round(value, DIGITS) if isinstance(value, float) else value for name, value in figures.items()}


def write_pictures(folder: Path, keys: np.ndarray, mined: Mined) -> None:
    """Write montage.png where there are clusters, and least_certain.png where there are confidences too."""
    if (mined.clusters >= 0).any():
        write_montage(folder / "montage.png", Shards.open(), keys, mined)
        if mined.confidence is not None:
            write_montage(folder / "least_certain.png", Shards.open(), keys, mined, least_certain=True)


def pairs_table(keys: np.ndarray, pairs: Pairs) -> pa.Table:
    """Form the table of pairs that reprise/artifacts/labels/pairs.py describes."""
    return pa.table(
        {
            "first": pa.array(keys[pairs.rows[:, 0]], pa.string()),
            "second": pa.array(keys[pairs.rows[:, 1]], pa.string()),
            "weight": pa.array(pairs.weight, pa.float32()),
            "kind": pa.array(pairs.kind, pa.string()),
            "hops": pa.array(pairs.hops.astype(np.int32)),
        }
    )


def parts_table(keys: np.ndarray, parts: Parts) -> pa.Table:
    """Form the table of parts that reprise/artifacts/labels/parts.py describes."""
    edges = {edge: pa.array(parts.boxes[:, place], pa.float32()) for place, edge in enumerate(EDGES)}
    return pa.table(
        {
            "key": pa.array(keys[parts.rows], pa.string()),
            "pattern": pa.array(parts.patterns.astype(np.int32)),
            "presence": pa.array(parts.presence, pa.float32()),
            **edges,
        }
    )


def as_table(
    keys: np.ndarray,
    mined: Mined,
    round_number: int = 0,
    known: np.ndarray | None = None,
    visible: np.ndarray | None = None,
) -> pa.Table:
    """Form the table that reprise/artifacts/labels/label_sets.py describes; -1 becomes null.

    Args:
        keys: (n,).
        mined: the label set.
        round_number: written into every row.
        known: (n,) bool, images that have a distance and a confidence; None: those with a label.
        visible: (n,) bool, images whose true label the miner got; None of a miner that gets none.
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
            **({} if visible is None else {GIVEN: pa.array(visible)}),
        }
    )


def quality(
    row: MineRow,
    miner_class: type[Miner],
    features: np.ndarray,
    mined: Mined,
    truth: list[str | None],
    visible: np.ndarray | None,
    seed: int,
) -> dict[str, Any]:
    """Compute the figures of a label set; those that compare with true labels are for the report and reach no method.

    Args:
        row: of `mines`.
        miner_class: the miner that the row names.
        features: (n, d) float32.
        mined: the label set.
        truth: (n,) labels of the manifest.
        visible: (n,) bool, images whose label the miner saw: only the others are compared. None: it saw none.
        seed: of the sample for the silhouette.
    """
    labelled = mined.clusters >= 0
    figures: dict[str, Any] = dict.fromkeys(
        ("size_min", "size_median", "size_max", "entropy", "silhouette", "nmi", "ari", "accuracy", "purity")
    )
    if visible is not None:
        figures |= {"given": int(visible.sum()), "accuracy_old": None, "accuracy_new": None}
    if labelled.any():
        figures |= sizes_summary(mined.clusters[labelled])
        if len(np.unique(mined.clusters[labelled])) > 1:
            figures["silhouette"] = silhouette(features, mined.clusters, SILHOUETTE_SAMPLE, seed)
        hidden = compared_classes(truth, visible)
        figures |= agreement(mined.clusters, hidden)
        if visible is not None:
            old = np.unique(compared_classes(truth, None)[visible])
            figures |= accuracy_by_class(mined.clusters, hidden, old)
    confidence = mined.confidence[labelled] if mined.confidence is not None and labelled.any() else None
    figures["confidence_mean"] = None if confidence is None else float(confidence.mean(dtype=np.float64))
    return {
        "miner": row.miner,
        "on": row.on,
        "uses_truth": miner_class.uses_truth,
        "images": len(features),
        "labelled": int(labelled.sum()),
        "pairs": None if mined.pairs is None else len(mined.pairs.rows),
        **({} if mined.pairs is None else pair_figures(mined.pairs, truth, DIGITS)),
        "clusters": len(np.unique(mined.clusters[labelled])),
        **rounded(figures),
    }
