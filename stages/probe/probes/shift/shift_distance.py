"""How far does a corruption move the features of an image, compared with another image? It needs no labels.

Source: Speicher et al. 2024 for the normalised distance (0: the corruption is not seen; 1: the image moves as far as to
a random other image), as in `invariance`. Deviation: as there.
Images from elsewhere have no unchanged counterpart and are left out.

Checked by: tests/stages/probe/test_shifted.py.
"""

from __future__ import annotations

from typing import ClassVar

from reprise.config.params import StrictModel
from stages.probe.data import ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult


class ShiftDistance(Probe):
    """Metrics: `moved_<set>`, the normalised distance under each corruption."""

    needs_shifted: ClassVar[bool] = True

    class Params(StrictModel):
        """None."""

    def run(self, data: ProbeData) -> ProbeResult:
        """Distances of images to their changed copies over distances between images."""
        from reprise.measures import invariance
        from reprise.measures.statistics import bootstrap_mean

        original, part = data.features(data.test), data.part(data.test)
        note = {
            "tap": "backbone",
            "images": f"{len(part)} of {data.test_note}",
            "distance": "Euclidean, over the mean of all other pairs",
            "interval": "bootstrap over groups" if part.groups is not None else "bootstrap over images",
        }
        if len(part) < 2 or not (apart := invariance.apart(original)).any():
            return ProbeResult({}, {**note, "note": "not run: fewer than two images with different features"})
        metrics, others = {}, []
        for name in data.shift_names:
            shifted = data.shifted(name)
            if not shifted.paired:
                others.append(name)
                continue
            value, parts = invariance.normalised_distance(invariance.moved(original, shifted.features), apart)
            low, high = bootstrap_mean(parts, part.groups, data.confidence)
            metrics[f"moved_{name}"] = Figure(value, low, high, len(part))
        if others:
            note["left out"] = f"{', '.join(others)}: images from elsewhere"
        return ProbeResult(metrics, note)
