"""Label sets: what the mine stage wrote to data/mine/<name>/<seed>."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprise.artifacts.budgets import labels_read
from reprise.artifacts.labels.label_sets import FILE as PSEUDO_LABELS
from reprise.artifacts.labels.label_sets import read_pseudo_labels
from reprise.artifacts.layout import LABEL_SETS
from stages.report.readers.runs import Run
from stages.report.readers.seed_folders import seed_folders
from stages.report.readers.shape import read_object


@dataclass(frozen=True)
class LabelSet:
    """A label set of one seed.

    Args:
        name: the row of `mines` in params.yaml.
        seed: the seed that it was mined with.
        quality: the figures of quality.json.
        clusters: key -> cluster, for the images that have a pseudo-label.
        distances: key -> distance to the centre of its cluster, for the images of which the miner says it.
    """

    name: str
    seed: int
    quality: dict[str, Any]
    clusters: dict[str, int]
    distances: dict[str, float] = field(default_factory=dict)

    def members(self, most: int) -> list[tuple[int, list[str]]]:
        """List the `most` largest clusters with the keys of their images, those nearest to the centre first."""
        by_cluster: dict[int, list[str]] = {}
        for key, cluster in self.clusters.items():
            by_cluster.setdefault(cluster, []).append(key)
        largest = sorted(by_cluster.items(), key=lambda item: (-len(item[1]), item[0]))[:most]
        return [
            (cluster, sorted(keys, key=lambda key: (self.distances.get(key, 0.0), key))) for cluster, keys in largest
        ]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Images per cluster, largest first."""
        return tuple(sorted(Counter(self.clusters.values()).values(), reverse=True))


def read_label_sets() -> tuple[LabelSet, ...]:
    """Read all of data/mine/<name>/<seed>, by name and seed.

    Raises:
        PseudoLabelError, ResultError: a file is damaged.
    """
    return tuple(_label_set(name, seed, folder) for name, seed, folder in seed_folders(LABEL_SETS))


def _label_set(name: str, seed: int, folder: Path) -> LabelSet:
    labels = folder / PSEUDO_LABELS
    clusters: dict[str, int] = {}
    distances: dict[str, float] = {}
    if labels.exists():
        table = read_pseudo_labels(labels)
        rows = zip(*(table[column].to_pylist() for column in ("key", "cluster", "distance")), strict=True)
        for key, cluster, distance in rows:
            if cluster is not None:
                clusters[key] = cluster
                if distance is not None:
                    distances[key] = distance
    return LabelSet(name, seed, read_object(folder / "quality.json", "mine"), clusters, distances)


def sets_with_true_labels(label_sets: Sequence[LabelSet], runs: Sequence[Run]) -> frozenset[str]:
    """Name the label sets that true labels have reached.

    They reach a set by its miner, or by the run on whose embedding it was mined, over any number of rounds and of
    runs that go on from each other.
    """
    labels_of = {run.name: set(labels_read(run.first.config)) for run in runs}
    mined_on = {s.name: str(s.quality.get("on")).removeprefix("embed/") for s in label_sets}
    reached = {s.name for s in label_sets if s.quality.get("uses_truth")}
    while further := {name for name, run in mined_on.items() if labels_of.get(run, set()) & reached} - reached:
        reached |= further
    return frozenset(reached)
