"""Invariance: how far does each change of an image move its features, compared with another image?

Source: Speicher et al. 2024 for the normalised distance (0 invariant, 1 as far as a random other image); alignment and
uniformity after Wang and Isola 2020. The changes and their strength are fixed in stages/embed/augmented.py. A change
that moves no feature of any image (grey on grey images) says nothing and is left out.
Deviation: pairs of different images only, all of them; the interval is the bootstrap of linearised contributions.

Checked by: tests/stages/probe/label_free/test_invariance.py.
"""

from __future__ import annotations

from typing import ClassVar

from reprise.config.params import StrictModel
from stages.probe.data import ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult

ORIGINAL, ALL = "original", "all"


class Invariance(Probe):
    """Metrics: normalised distance under each change (`crop`, `flip`, ...), `alignment` under all of them at once."""

    needs_labels: ClassVar[bool] = False
    needs_augmented: ClassVar[bool] = True

    class Params(StrictModel):
        """None: how many images is a parameter of embed."""

    def run(self, data: ProbeData) -> ProbeResult:
        """Distances under each change over distances between images."""
        from reprise.measures import invariance
        from reprise.measures.statistics import bootstrap_mean

        part, features = data.augmented()
        original = features.pop(ORIGINAL)
        note = {"tap": "backbone", "images": f"{len(part)}", "distance": "Euclidean, over the mean of all other pairs"}
        if len(part) < 2 or not (apart := invariance.apart(original)).any():
            return ProbeResult({}, {**note, "note": "not run: fewer than two images with different features"})
        metrics, still = {}, []
        for name, changed in features.items():
            moved = invariance.moved(original, changed)
            if not moved.any():
                still.append(name)
                continue
            value, contributions = invariance.normalised_distance(moved, apart)
            low, high = bootstrap_mean(contributions, part.groups, data.confidence)
            metrics[name] = Figure(value, low, high, len(part))
        if ALL in features:
            squared = invariance.alignment(original, features[ALL])
            low, high = bootstrap_mean(squared, part.groups, data.confidence)
            metrics["alignment"] = Figure(float(squared.mean()), low, high, len(part))
        note["interval"] = "bootstrap over groups" if part.groups is not None else "bootstrap over images"
        if still:
            note["left out"] = f"{', '.join(still)}: changes no feature of any image"
        return ProbeResult(metrics, note)
