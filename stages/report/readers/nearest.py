"""Nearest neighbours among images that were not trained on, for each run and seed, from the embeddings.

The probe `neighbours` keeps a few queries for the eye; a share of neighbours in common, with an interval, needs many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reprise.artifacts import layout
from reprise.artifacts.embeddings import FILE
from reprise.artifacts.layout import MANIFEST
from reprise.artifacts.manifest import read_manifest
from reprise.measures.unit_vectors import unit
from stages.report.readers.embeddings import read_some_embeddings, read_splits
from stages.report.readers.runs import Run

MOST_IMAGES = 1000  # keys are content hashes, so the first ones are a fair sample
NEIGHBOURS = 10
FEWEST_IMAGES = 3 * NEIGHBOURS  # with fewer, neighbours are in common by chance
_BY_PREFERENCE = ("test", "val", "train")


@dataclass(frozen=True)
class Nearest:
    """The nearest images of each image, by cosine similarity of the features.

    Args:
        split: the images that were asked for, and among which neighbours were sought.
        rows: (run, seed) -> (n, NEIGHBOURS) rows of the nearest images, sorted by number and not by distance.
        groups: (n,) a number for each group of images; None where images come in no groups.
    """

    split: str
    rows: dict[tuple[str, int], np.ndarray]
    groups: np.ndarray | None

    @property
    def images(self) -> int:
        """Number of images."""
        return len(next(iter(self.rows.values())))


def read_nearest(runs: Sequence[Run]) -> Nearest | None:
    """Find the neighbours by every run and seed that has an embedding.

    Returns:
        The neighbours; None where no run is embedded or a split has too few images.

    Raises:
        EmbeddingError, ManifestError: a file is damaged.
    """
    paths = {(run.name, seed.seed): layout.embedding(run.name, seed.seed) / FILE for run in runs for seed in run.seeds}
    paths = {name: path for name, path in paths.items() if path.exists()}
    if not paths:
        return None
    keys, splits = read_splits(next(iter(paths.values())))
    split = next(s for s in (*_BY_PREFERENCE, *splits) if (splits == s).any())
    reference = keys[splits == split][:MOST_IMAGES]
    if len(reference) < FEWEST_IMAGES:
        return None
    found: dict[tuple[str, int], np.ndarray] = {}
    for name, path in paths.items():
        present, features = read_some_embeddings(path, set(reference.tolist()))
        if len(present) == len(reference):
            found[name] = nearest_rows(features)
    return Nearest(split, found, _groups(reference)) if found else None


def nearest_rows(features: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Find the k rows of (n, d) features that are most similar to each row, itself left out: (n, k), sorted."""
    rows = unit(features)
    similarity = (rows @ rows.T).astype(np.float32)
    np.fill_diagonal(similarity, -np.inf)
    return np.sort(np.argsort(-similarity, axis=1, kind="stable")[:, :k], axis=1)


def in_common(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the share of neighbours that two encoders have in common for each image: (n, k) twice -> (n,)."""
    return (a[:, :, None] == b[:, None, :]).any(axis=2).mean(axis=1)


def _groups(keys: np.ndarray) -> np.ndarray | None:
    if not MANIFEST.exists():
        return None
    table = read_manifest(columns=["key", "group"])
    by_key = dict(zip(table["key"].to_pylist(), table["group"].to_pylist(), strict=True))
    names = [by_key.get(key) for key in keys]
    if any(name is None for name in names):
        return None
    return np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)[1]
