"""`patterns`: parts that recur in many images, found by units of a run that respond together, with a box in each image.

Source: Li, Ellis, Zhang, Chang, "PatternNet: Visual Pattern Mining with Deep Neural Network", ICMR 2018. No code by the
authors was found.

Idea: a unit of a trained network that responds often in the images of one class and seldom in others stands for
something of that class; a few such units that respond together at one place are a pattern. Here k-means on the units'
largest responses takes the place of classes. Each unit fires in the share `fires` of all images, those of its largest
responses. In each cluster the first unit is the one with the largest difference of how often it fires inside and
outside, and others follow by how much more often they fire inside together with the first, at most `extent` away from
it. An image holds the pattern as far as its units fire around one place, the place of the one that has most others
within `extent`. The box is a square of the side `extent` around the mean of their places.

An image belongs to the pattern of largest presence, the first of equal ones; with none present it has no label.
Confidence is the presence. parts.parquet holds all patterns of every image, with their boxes.

Deviations: the paper could not be read, so its thresholds and its way from units to boxes are not known; sizes of boxes
are a parameter instead of receptive fields. Needs `embed: {units: true}`, which writes the places of the peaks.

Legend: n images, D units, K patterns, u units of a pattern.

Checked by: tests/stages/mine/test_patterns.py; docs/measurements/learned-clusters.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from reprise.clustering.centres import nearest_centres
from reprise.clustering.kmeans import kmeans
from reprise.config.errors import MiningError
from reprise.config.params import StrictModel, meaning
from reprise.networks.peaks import NUMBERS, UNITS
from reprise.runtime.seeds import numpy_rng
from stages.mine.miner import Mined, Miner, Parts, check_clusters

ITERATIONS, STARTS = 50, 4  # of k-means
FEWEST = 2  # units of a pattern


class PatternParams(StrictModel):
    """Parameters of `patterns`."""

    clusters: Annotated[
        int,
        Field(ge=2, le=10_000),
        meaning("Images fall into this many clusters, and each has a pattern.", "clusters"),
    ] = 10
    units: Annotated[int, Field(ge=1, le=64), meaning("A pattern is made of this many units at most.", "units")] = 5
    fires: Annotated[
        float, Field(gt=0, lt=1), meaning("A unit fires in this share of the images, those of its largest responses.")
    ] = 0.2
    present: Annotated[
        float, Field(gt=0, le=1), meaning("An image holds a pattern if this share of its units fires around a place.")
    ] = 0.6
    extent: Annotated[
        float, Field(gt=0, le=1), meaning("Boxes have this side, and units belong together within it, as a share.")
    ] = 0.3


class Patterns(Miner):
    """Patterns of units that fire together in the images of a cluster."""

    Params = PatternParams
    tap = UNITS
    embedded_by = "units"
    params: PatternParams

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Find patterns in (n, 3 D) peaks.

        Raises:
            MiningError: more clusters than images, constant responses, or no image that holds a pattern.
        """
        peaks = features.reshape(len(features), -1, NUMBERS)
        values, places = peaks[:, :, 0], peaks[:, :, 1:]
        check_clusters(np.ascontiguousarray(values), self.params.clusters, "mining.*.clusters")
        clusters = clustered(values, self.params.clusters, self.seed)
        firing = fired(values, self.params.fires)
        found = [units_of(firing, places, clusters == k, self.params) for k in range(self.params.clusters)]
        presence, boxes = located(found, firing, places, self.params.extent)
        best = presence.argmax(axis=1)
        shown = presence.max(axis=1) >= self.params.present
        if not shown.any():
            raise MiningError(
                "no image holds a pattern",
                where="mining.*.present",
                found=f"at most {presence.max():.2f} of a pattern's units fire around one place",
                fix="Lower present, raise extent, or raise fires.",
            )
        used = np.unique(best[shown])  # patterns that are no image's strongest are left out
        number = np.full(presence.shape[1], -1)
        number[used] = np.arange(len(used))
        rows, patterns = np.nonzero(presence[:, used] >= self.params.present)
        self.patterns = [found[k] for k in used]
        parts = Parts(rows, patterns, presence[rows, used[patterns]], boxes[rows, used[patterns]])
        labels = np.where(shown, number[best], -1)
        return Mined(labels, None, np.clip(presence.max(axis=1), 0, 1).astype(np.float32), parts=parts)

    def figures(self, features: np.ndarray, mined: Mined) -> dict[str, Any]:
        """Say which units each pattern is made of, and how many patterns an image holds on average."""
        held = 0 if mined.parts is None else len(mined.parts.rows)
        return {"units": [units.tolist() for units in self.patterns], "patterns_of_an_image": held / len(features)}


def clustered(values: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Cluster images by their standardised responses: (n, D) -> (n,) int64."""
    spread = values.std(axis=0)
    x = np.ascontiguousarray((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0), dtype=np.float32)
    return nearest_centres(x, kmeans(x, clusters, ITERATIONS, STARTS, numpy_rng(seed, "patterns"), device="cpu"), "cpu")


def fired(values: np.ndarray, share: float) -> np.ndarray:
    """Tell where units fire: (n, D) bool, above each unit's own quantile; a unit that never varies does not fire."""
    return values > np.quantile(values, 1.0 - share, axis=0)


def units_of(firing: np.ndarray, places: np.ndarray, inside: np.ndarray, params: PatternParams) -> np.ndarray:
    """Choose the units of a cluster's pattern: (u,) int64, the first one leads; none where no two fire together.

    Args:
        firing: (n, D) bool. places: (n, D, 2). inside: (n,) bool, the images of the cluster.
        params: how many units, and how near they must lie.
    """
    if not inside.any() or inside.all():
        return np.empty(0, dtype=np.int64)
    first = int((firing[inside].mean(axis=0) - firing[~inside].mean(axis=0)).argmax())
    near = np.abs(places - places[:, first : first + 1]).max(axis=2) <= params.extent
    together = firing & near & firing[:, first : first + 1]
    gain = together[inside].mean(axis=0) - together[~inside].mean(axis=0)
    gain[first] = np.inf
    order = np.argsort(-gain, kind="stable")[: params.units]
    chosen = order[gain[order] > 0]
    return chosen if len(chosen) >= min(FEWEST, params.units) else chosen[:0]  # one unit alone shares no place


def located(
    patterns: list[np.ndarray], firing: np.ndarray, places: np.ndarray, extent: float
) -> tuple[np.ndarray, np.ndarray]:
    """Look for each pattern in each image.

    Args:
        patterns: K arrays of units.
        firing: (n, D) bool. places: (n, D, 2) shares of the side.
        extent: side of a box.

    Returns:
        (n, K) float32 shares of a pattern's units that fire around one place, and (n, K, 4) float32 boxes: top, left,
        bottom, right, within the image.
    """
    presence = np.zeros((len(firing), len(patterns)), dtype=np.float32)
    boxes = np.zeros((len(firing), len(patterns), 4), dtype=np.float32)
    for k, units in enumerate(patterns):
        if not len(units):
            continue
        on, at = firing[:, units], places[:, units]
        near = (np.abs(at[:, :, None] - at[:, None]).max(axis=3) <= extent) & on[:, :, None] & on[:, None]
        anchor = near.sum(axis=2).argmax(axis=1)
        group = near[np.arange(len(on)), anchor]
        count = group.sum(axis=1)
        centre = (at * group[:, :, None]).sum(axis=1) / np.maximum(count, 1)[:, None]
        presence[:, k] = count / len(units)
        boxes[:, k] = np.clip(np.concatenate([centre - extent / 2, centre + extent / 2], axis=1), 0.0, 1.0)
    return presence, boxes
