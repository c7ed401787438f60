"""Which places belong to an object, told from a few images whose masks are given?

The local features of a few training images are averaged over their object and over their background, each place of
length one. A place of a scored image belongs to the object if it is more similar (cosine) to the first mean than to the
second. Nothing is trained and nothing chosen; the images are drawn several times.
Deviations: places are judged and not pixels, so that the figure says nothing of borders; every object of an image
counts alike; no transductive steps.

Source: the inductive prototype with which Boudiaf et al. begin ("Few-shot segmentation without meta-learning: a good
transductive inference is all you need?", RePRI, CVPR 2021; authors' code mboudiaf/RePRI-for-Few-Shot-Segmentation).

Legend: n images, D width, L = h w places.

Checked by: tests/stages/probe/images/test_few_masks.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import Seed, StrictModel, meaning
from stages.probe.data import ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult

Shots = Annotated[int, Field(ge=1, le=10_000)]
COVERED = 0.5  # share of a place from which on it belongs to the object


class FewMasks(Probe):
    """Metrics: `iou_<shots>`, the mean over object and background, and `iou_all` where all is called the object."""

    needs_labels: ClassVar[bool] = False

    class Params(StrictModel):
        """Parameters of `few_masks`."""

        fact: Annotated[str, Field(min_length=1, max_length=48), meaning("The masks are this fact of the images.")] = (
            "mask"
        )
        shots: Annotated[
            list[Shots],
            Field(min_length=1, max_length=10),
            meaning("The masks of this many training images are given.", "images"),
        ] = Field(default_factory=lambda: [1, 5])
        draws: Annotated[
            int, Field(ge=1, le=1000), meaning("The images are drawn this many times, and figures are averaged.")
        ] = 20
        images: Annotated[
            int,
            Field(ge=1, le=100_000),
            meaning("At most this many scored images are judged, the first by the hash of their keys.", "images"),
        ] = 256
        seed: Annotated[Seed, meaning("The drawn images depend on this seed.")] = 0

    def run(self, data: ProbeData) -> ProbeResult:
        """Average over the masks of a few training images, and judge the scored images."""
        from reprise.measures.statistics import bootstrap
        from stages.probe.images.image_data import ImageData
        from stages.probe.images.masks import shares_of

        assert isinstance(data, ImageData), "this probe belongs to a group of `checks`"
        if data.local is None:
            return ProbeResult({}, {"note": f"not run: {data.config['architecture']} has no local features"})
        if data.sides.kinds.get(self.params.fact) != "mask":
            return ProbeResult({}, {"note": f"not run: the images have no masks called '{self.params.fact}'"})
        known = {
            split: np.array([key for key in data.part(split).keys if data.sides.has(key, self.params.fact)], object)
            for split in ("train", data.test)
        }
        part, having = data.part(data.test), set(known[data.test].tolist())
        rows = [i for i in data.choose(data.test, self.params.images).tolist() if part.keys[i] in having]
        scored, groups = part.keys[rows], part.groups
        if data.test == "train" or not len(scored) or len(known["train"]) < max(self.params.shots):
            return ProbeResult({}, {"note": "not run: too few images of train, or of a split to score, have masks"})
        places, tokens = data.local.places, unit(data.local.tokens(scored).cpu().numpy())
        truth = shares_of(data.masks(self.params.fact, scored), places).reshape(len(scored), -1) >= COVERED

        def figure(counts: np.ndarray) -> Figure:
            """(draws, n, 4) intersections and unions of both -> the mean over draws, resampled over images."""
            low, high = bootstrap(
                lambda weights: mean_iou(np.tensordot(weights, counts, (1, 1))).mean(axis=1),
                len(scored),
                None if groups is None else groups[rows],
                data.confidence,
            )
            return Figure(float(mean_iou(counts.sum(axis=1)).mean()), low, high, len(scored))

        metrics = {"iou_all": figure(overlaps(np.ones_like(truth), truth)[None])}
        for shots in self.params.shots:
            drawn = []
            for draw in range(self.params.draws):
                rng = np.random.default_rng([self.params.seed, shots, draw])
                given = np.sort(rng.choice(known["train"], shots, replace=False))
                shares = shares_of(data.masks(self.params.fact, given), places).reshape(-1)
                support = unit(data.local.tokens(given).cpu().numpy()).reshape(len(shares), -1)
                drawn.append(overlaps(answers(support, shares, tokens), truth))
            metrics[f"iou_{shots}"] = figure(np.stack(drawn))
        return ProbeResult(
            metrics,
            {
                "scored on": data.test_note,
                "places": f"{places.rows} x {places.columns}, {places.stride:g} pixels apart",
                "masks": f"{self.params.fact} of {len(known['train'])} train images, {self.params.draws} draws",
                "figure": "intersection over union, summed over all images, mean of object and background",
                "interval": "bootstrap over images or groups, the drawn masks stay",
            },
        )


def unit(tokens: np.ndarray) -> np.ndarray:
    """Give vectors the length one: (..., D) -> (..., D) float64; zeros stay."""
    x = tokens.astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def answers(support: np.ndarray, shares: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Tell which places belong to the object: (n, L) booleans.

    Args:
        support: (m, D) places of the images whose masks are given, of length one.
        shares: (m,) of each that the object covers: its weight in the mean of the object.
        tokens: (n, L, D) places to judge, of length one.
    """
    means = np.stack([shares @ support, (1 - shares) @ support])
    return np.asarray((tokens @ unit(means).T) @ np.array([1.0, -1.0]) > 0)


def overlaps(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Count places of each image: (n, L) booleans each -> (n, 4) intersection and union of object, then background."""
    pairs = ((found, truth), (~found, ~truth))
    return np.stack([count(a, b).sum(axis=1) for a, b in pairs for count in (np.logical_and, np.logical_or)], axis=1)


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """(..., 4) intersection and union of object and background -> (...) mean of both; an empty union counts as 1."""
    shared, joined = counts[..., [0, 2]], counts[..., [1, 3]]
    return np.asarray(np.where(joined > 0, shared / np.maximum(joined, 1e-12), 1.0).mean(axis=-1))
