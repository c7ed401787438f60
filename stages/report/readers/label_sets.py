"""Label sets: what the mine stage wrote to data/mine/<name>/<seed>."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
        montage: the picture of example images, None where there is none.
    """

    name: str
    seed: int
    quality: dict[str, Any]
    clusters: dict[str, int]
    montage: Path | None

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
    labels, montage = folder / PSEUDO_LABELS, folder / "montage.png"
    clusters: dict[str, int] = {}
    if labels.exists():
        table = read_pseudo_labels(labels)
        rows = zip(table["key"].to_pylist(), table["cluster"].to_pylist(), strict=True)
        clusters = {key: cluster for key, cluster in rows if cluster is not None}
    quality = read_object(folder / "quality.json", "mine")
    return LabelSet(name, seed, quality, clusters, montage if montage.exists() else None)


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
