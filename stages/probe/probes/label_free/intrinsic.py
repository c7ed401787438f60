"""Intrinsic dimension: how many directions do the training features vary in, locally?

Source: maximum likelihood (Levina and Bickel 2004, averaged as MacKay and Ghahramani 2005), two-NN (Facco et al. 2017);
used on representations by Ansuini et al. 2019 and Konz and Mazurowski 2024. Euclidean distances between raw features.
Deviation: repeated features are left out (they are at distance zero) and counted in the protocol. No interval: copies,
as a bootstrap draws them, would be at distance zero.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from reprise.config.params import StrictModel
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult


class Intrinsic(Probe):
    """Metrics, on train: `mle`, `two_nn`, and `two_nn_half` on half of the images: does scale matter?"""

    needs_labels: ClassVar[bool] = False

    class Params(StrictModel):
        """rows: training images at most, by key hash. k: neighbours of the likelihood."""

        rows: Annotated[int, Field(ge=20, le=20_000)] = 5000
        k: Annotated[int, Field(ge=2, le=200)] = 20

    def run(self, data: ProbeData) -> ProbeResult:
        """Distances once for all images, once for half of them."""
        from reprise.measures import intrinsic

        chosen = data.choose("train", self.params.rows)
        features = data.features("train", BACKBONE)[chosen]
        x, half = intrinsic.distinct_rows(features), intrinsic.distinct_rows(features[::2])
        if len(half) < intrinsic.FEWEST:
            return ProbeResult({}, {"note": f"not run: {len(x)} distinct training features are too few"})
        k = min(self.params.k, len(x) - 1)
        distances = intrinsic.neighbour_distances(x, k)
        found = {
            "mle": (intrinsic.maximum_likelihood(distances), len(x)),
            "two_nn": (intrinsic.two_nn(distances), len(x)),
            "two_nn_half": (intrinsic.two_nn(intrinsic.neighbour_distances(half, 2)), len(half)),
        }
        protocol = {
            "tap": BACKBONE,
            "images": f"{len(chosen)} of train, {len(chosen) - len(x)} with features of another left out",
            "dimensions": f"{features.shape[1]}",
            "k": f"{k}",
            "interval": "none: copies would be at distance zero",
        }
        metrics = {name: Figure(value, None, None, n) for name, (value, n) in found.items() if value < float("inf")}
        return ProbeResult(metrics, protocol)
